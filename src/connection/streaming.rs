use super::{
    inbox::{Event, Fault},
    whole::whole_frame,
};
use crate::protocol::{FrameHeader, Incoming, MessageKind, ParsedHeader, Progress, Rules};

/// Messages of a connection that are passed on in pieces, as they arrive, with no buffer of their own.
#[derive(Default)]
pub(crate) struct Streaming {
    /// True exactly when the next message is to be passed on like that.
    pub(super) wanted: bool,
    /// The message under way.
    message: Option<Streamed>,
}

struct Streamed {
    incoming: Incoming,
    /// True exactly when a piece of it was passed on.
    begun: bool,
}

/// What a piece is of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: MessageKind,
    /// True exactly for the piece that begins the message.
    pub(crate) first: bool,
    /// True exactly for the piece that completes the message.
    pub(crate) last: bool,
}

impl Piece {
    /// A message in one piece.
    pub(crate) fn whole(kind: MessageKind) -> Self {
        Self {
            kind,
            first: true,
            last: true,
        }
    }
}

impl Streaming {
    /// True exactly when a message is under way, or the next one is to be passed on in pieces.
    pub(super) fn is_on(&self) -> bool {
        self.wanted || self.message.is_some()
    }

    /// True exactly when a compressed message begins here: it is assembled as ever, for it can only be inflated as a whole.
    pub(super) fn leaves(&self, input: &[u8], rules: &Rules) -> bool {
        rules.compression
            && self.message.is_none()
            && matches!(
                FrameHeader::parse(input),
                Ok(ParsedHeader::Complete(header, _)) if header.rsv != 0
            )
    }

    /// As [`Inbox::next`](super::inbox::Inbox::next).
    pub(super) fn next(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
    ) -> Result<Option<Event>, Fault> {
        let remaining = |message: &Streamed| message.incoming.remaining();
        if self.message.as_ref().and_then(remaining).is_none() {
            let bytes = &mut input[*position..];
            let ParsedHeader::Complete(header, header_len) = FrameHeader::parse(bytes)? else {
                return Ok(None);
            };
            rules.check(
                &header,
                self.message
                    .as_ref()
                    .map(|message| message.incoming.in_progress()),
            )?;
            let starts_at = *position + header_len;
            if header.opcode.is_control() {
                if header.payload_len > (bytes.len() - header_len) as u64 {
                    return Ok(None);
                }
                // At most 125 bytes, or the check would have failed.
                #[expect(clippy::cast_possible_truncation)]
                let range = starts_at..starts_at + header.payload_len as usize;
                *position = range.end;
                return whole_frame(&header, &mut input[range.clone()], range, rules).map(Some);
            }
            *position = starts_at;
            self.begin_frame(&header);
        }
        self.next_piece(input, position, rules)
    }

    fn begin_frame(&mut self, header: &FrameHeader) {
        let message = self.message.get_or_insert_with(|| Streamed {
            incoming: Incoming::new(header),
            begun: false,
        });
        message.incoming.begin_frame(header);
    }

    /// What has arrived of the frame under way.
    fn next_piece(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
    ) -> Result<Option<Event>, Fault> {
        let Some(message) = &mut self.message else {
            return Ok(None);
        };
        let Some(remaining) = message.incoming.remaining() else {
            return Ok(None);
        };
        let end = input.len().min(position.saturating_add(remaining));
        let range = *position..end;
        // An empty frame is a piece too: it may begin or complete a message.
        if range.is_empty() && remaining > 0 {
            return Ok(None);
        }
        *position = end;
        let progress = message.incoming.take(&mut input[range.clone()], rules)?;
        let piece = Piece {
            kind: message.incoming.kind,
            first: !std::mem::replace(&mut message.begun, true),
            last: progress == Progress::Message,
        };
        if piece.last {
            self.message = None;
        }
        Ok(Some(Event::Piece(piece, range)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Opcode;
    use crate::protocol::{MAX_HEADER_LEN, ProtocolError, Role, apply_mask};

    const RULES: Rules = Rules {
        role: Role::Server,
        max_message_size: 1000,
        check_utf8: true,
        compression: false,
    };

    fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            fin,
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::new(opcode, payload.len() as u64)
        };
        let mut out = vec![0; MAX_HEADER_LEN];
        let len = header.encode((&mut out[..]).try_into().unwrap());
        out.truncate(len);
        out.extend_from_slice(payload);
        apply_mask([1, 2, 3, 4], 0, &mut out[len..]);
        out
    }

    fn streaming() -> Streaming {
        Streaming {
            wanted: true,
            message: None,
        }
    }

    /// A message with its kind, or the payload of a control frame.
    type Seen = (Option<MessageKind>, Vec<u8>);

    /// Feeds chunks, with what is left of each in front of the next; messages come back whole.
    fn feed(chunks: &[&[u8]]) -> Result<Vec<Seen>, Fault> {
        let (mut streaming, mut kept) = (streaming(), Vec::new());
        let (mut events, mut open) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let mut input = [&kept[..], chunk].concat();
            let mut position = 0;
            while let Some(event) = streaming.next(&mut input, &mut position, &RULES)? {
                match event {
                    Event::Piece(piece, range) => {
                        assert!(!piece.first || open.is_empty());
                        open.extend_from_slice(&input[range]);
                        if piece.last {
                            events.push((Some(piece.kind), std::mem::take(&mut open)));
                        }
                    }
                    Event::Control(_, range) => events.push((None, input[range].to_vec())),
                    other => panic!("{other:?}"),
                }
            }
            kept = input.split_off(position);
        }
        assert!(kept.is_empty() && streaming.message.is_none());
        Ok(events)
    }

    #[test]
    fn pieces_make_up_the_messages_wherever_the_input_is_cut() {
        let wire = [
            frame(Opcode::Text, false, "aß".as_bytes()),
            frame(Opcode::Ping, true, b"p"),
            frame(Opcode::Continuation, false, b""),
            frame(Opcode::Continuation, true, "€😀".as_bytes()),
            frame(Opcode::Binary, true, b""),
            frame(Opcode::Binary, true, &[7; 300]),
        ]
        .concat();
        let expected = vec![
            (None, b"p".to_vec()),
            (Some(MessageKind::Text), "aß€😀".into()),
            (Some(MessageKind::Binary), vec![]),
            (Some(MessageKind::Binary), vec![7; 300]),
        ];
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(feed(&bytes).unwrap(), expected);
        for cut in 0..=wire.len() {
            let (start, end) = wire.split_at(cut);
            assert_eq!(feed(&[start, end]).unwrap(), expected, "{cut}");
        }
    }

    #[test]
    fn flags_say_where_a_message_begins_and_ends() {
        let mut wire = [
            frame(Opcode::Binary, false, b"ab"),
            frame(Opcode::Continuation, true, b"c"),
            frame(Opcode::Binary, true, b"d"),
        ]
        .concat();
        let (mut streaming, mut position) = (streaming(), 0);
        let mut flags = Vec::new();
        while let Some(Event::Piece(piece, _)) =
            streaming.next(&mut wire, &mut position, &RULES).unwrap()
        {
            flags.push((piece.first, piece.last));
        }
        assert_eq!(flags, [(true, false), (false, true), (true, true)]);
    }

    #[test]
    fn rules_hold_for_streams_too() {
        let fault = |frames: &[Vec<u8>]| feed(&[&frames.concat()]).unwrap_err();
        let too_big = [
            frame(Opcode::Binary, false, &[0; 600]),
            frame(Opcode::Continuation, true, &[0; 401]),
        ];
        assert_eq!(fault(&too_big), ProtocolError::MessageTooBig.into());
        let interrupted = [
            frame(Opcode::Binary, false, b""),
            frame(Opcode::Text, true, b""),
        ];
        assert_eq!(
            fault(&interrupted),
            ProtocolError::InterruptedMessage.into()
        );
        let cut_character = [
            frame(Opcode::Text, false, b"a\xe2"),
            frame(Opcode::Continuation, true, b"\x82"),
        ];
        assert_eq!(fault(&cut_character), ProtocolError::InvalidUtf8.into());
        let stray = [frame(Opcode::Continuation, true, b"")];
        assert_eq!(fault(&stray), ProtocolError::UnexpectedContinuation.into());
    }
}
