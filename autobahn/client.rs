//! The client under test: asks the suite's server for its cases, echoes each of them, and has the report written.
//!
//! ```text
//! cargo run --release --example autobahn_client -- ws://127.0.0.1:9001
//! ```

use std::{error::Error, process::ExitCode, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Close, Compression, Config, Conn, ConnId, Connect, ConnectError, Connections, EventLoop,
    Handler, HttpResponse, Message, Request, Response,
};

/// The name under which the report lists this client.
const AGENT: &str = "wsloop";

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One text message says how many cases there are.
    Count,
    Case(usize),
    /// Writes the report before its 101.
    Report,
}

struct Runner {
    url: String,
    cases: usize,
    failed: Option<String>,
}

impl Runner {
    fn begin(&mut self, step: Step, connections: &mut Connections<'_, Step>) {
        let path = match step {
            Step::Count => "/getCaseCount".to_owned(),
            Step::Case(case) => format!("/runCase?case={case}&agent={AGENT}"),
            Step::Report => format!("/updateReports?agent={AGENT}"),
        };
        let begun = Connect::to(&format!("{}{path}", self.url))
            .map_err(|error| error.to_string())
            .and_then(|connect| {
                connections
                    .connect(connect, step)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = begun {
            self.fail(error, connections);
        }
    }

    fn fail(&mut self, error: String, connections: &mut Connections<'_, Step>) {
        self.failed = Some(error);
        connections.shutdown(Duration::from_secs(1));
    }
}

impl Handler for Runner {
    type Session = Step;

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<Step, HttpResponse> {
        Err(HttpResponse::not_found())
    }

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, Step>,
        step: Step,
        error: ConnectError,
    ) {
        self.fail(format!("{step:?}: {error}"), connections);
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Step>, message: Message<'_>) {
        match conn.session() {
            Step::Count => {
                self.cases = message
                    .text()
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0);
            }
            _ => {
                let _ = conn.send_copy(message.kind(), message.as_bytes());
            }
        }
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, Step>,
        _: ConnId,
        step: Step,
        _: &Close,
    ) {
        let next = match step {
            Step::Count if self.cases == 0 => return self.fail("no cases".to_owned(), connections),
            Step::Count => Step::Case(1),
            Step::Case(case) if case < self.cases => Step::Case(case + 1),
            Step::Case(_) => Step::Report,
            Step::Report => return connections.shutdown(Duration::from_secs(1)),
        };
        self.begin(next, connections);
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let url = std::env::args()
        .nth(1)
        .ok_or("usage: autobahn_client ws://HOST:PORT")?;
    // Fixed, so that a failure can be repeated: the suite's server guesses nothing.
    let config = Config::default()
        .max_message_size(64 << 20)
        .compression(Compression::Dedicated);
    let rng = ChaCha20Rng::from_seed([42; 32]);
    let mut event_loop = EventLoop::new(config)?;
    event_loop.set_rng(rng);
    let mut app = Runner {
        url,
        cases: 0,
        failed: None,
    };
    app.begin(Step::Count, &mut event_loop.connections());
    event_loop.run(&mut app)?;
    println!("{} cases", app.cases);
    app.failed.map_or(Ok(()), |error| Err(error.into()))
}
