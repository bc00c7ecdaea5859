use crate::{
    driver::{ConnectError, RefusedAnswer},
    protocol::handshake::{BodyLength, ChunkedEnd, ResponseHead, body_length},
};

/// A server's refusal while its body comes in. Its head is taken apart once, and no byte of the body is looked at twice,
/// however small the pieces are that it comes in.
#[derive(Debug)]
pub(super) struct Refusal {
    answer: RefusedAnswer,
    end: End,
}

/// Where the body ends.
#[derive(Debug)]
enum End {
    /// Behind so many bytes.
    At(usize),
    /// The body says it.
    Chunked(ChunkedEnd),
}

impl Refusal {
    pub(super) fn new(head: &ResponseHead<'_>) -> Self {
        let end = match body_length(head) {
            BodyLength::None => End::At(0),
            BodyLength::Exact(len) => End::At(usize::try_from(len).unwrap_or(usize::MAX)),
            BodyLength::Chunked => End::Chunked(ChunkedEnd::default()),
            BodyLength::UntilClose => End::At(usize::MAX),
        };
        let answer = RefusedAnswer {
            status: head.status(),
            headers: head
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            body: Vec::new(),
        };
        Self { answer, end }
    }

    /// What has come of the body, to be added to.
    pub(super) fn body(&mut self) -> &mut Vec<u8> {
        &mut self.answer.body
    }

    /// How many bytes of the body may still be kept.
    pub(super) fn room(&self) -> usize {
        RefusedAnswer::MAX_BODY.saturating_sub(self.answer.body.len())
    }

    /// True exactly when no more of the body is to come, or to be kept. To be asked after every addition.
    pub(super) fn is_complete(&mut self) -> bool {
        let body = &self.answer.body;
        if let End::Chunked(chunked) = &mut self.end {
            if let Some(len) = chunked.find(body) {
                self.end = End::At(len);
            }
        }
        self.room() == 0 || self.answer.body.len() >= self.wanted()
    }

    /// As much of it as there is.
    pub(super) fn into_error(mut self) -> ConnectError {
        let wanted = self.wanted();
        self.answer.body.truncate(wanted);
        ConnectError::Refused(Box::new(self.answer))
    }

    /// Bytes that the body has, as far as they are kept.
    fn wanted(&self) -> usize {
        let len = match self.end {
            End::At(len) => len,
            End::Chunked(_) => usize::MAX,
        };
        len.min(RefusedAnswer::MAX_BODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::handshake::HeaderSlots;

    fn refusal(head: &str) -> Refusal {
        let mut slots = HeaderSlots::new(4);
        Refusal::new(&ResponseHead::parse(head.as_bytes(), &mut slots).unwrap())
    }

    /// What is kept of a body that comes byte by byte, up to where it is complete.
    fn dripped(mut refusal: Refusal, body: &[u8]) -> (usize, RefusedAnswer) {
        let mut count = 0;
        while !refusal.is_complete() && count < body.len() {
            refusal.body().push(body[count]);
            count += 1;
        }
        match refusal.into_error() {
            ConnectError::Refused(answer) => (count, *answer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_is_complete_where_its_head_says() {
        let long = vec![b'b'; 100_000];
        for (field, body, len) in [
            ("Content-Length: 0", &long[..], 0),
            ("Content-Length: 5", &long, 5),
            ("Content-Length: 90000", &long, RefusedAnswer::MAX_BODY),
            ("X: y", &long, RefusedAnswer::MAX_BODY),
            ("X: y", &long[..7], 7),
            ("Transfer-Encoding: chunked", b"1\r\nb\r\n0\r\n\r\nmore", 11),
            ("Transfer-Encoding: chunked", &long, RefusedAnswer::MAX_BODY),
        ] {
            let refusal = refusal(&format!("HTTP/1.1 403 No\r\n{field}\r\n\r\n"));
            let (count, answer) = dripped(refusal, body);
            assert_eq!(count, len, "{field}");
            assert_eq!((answer.status, answer.headers.len()), (403, 1));
            assert_eq!(answer.body, &body[..len], "{field}");
        }
    }

    #[test]
    fn what_comes_behind_the_body_is_not_kept() {
        let mut refusal = refusal("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n");
        refusal.body().extend(b"no, never");
        assert!(refusal.is_complete());
        assert!(matches!(refusal.into_error(), ConnectError::Refused(it) if it.body == b"no"));
    }
}
