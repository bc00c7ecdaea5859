use std::error::Error;

use tokio_websockets::{ClientBuilder, Config, Limits, Message, ServerBuilder};

use super::{ANNOUNCEMENT, Options, Role, Service, URL, stream};

impl stream::Data for Message {
    fn data(&self) -> Option<&[u8]> {
        (self.is_text() || self.is_binary()).then(|| &**self.as_payload())
    }
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options {
        role,
        service,
        batch,
        ..
    } = *options;
    let hub = stream::hub();
    stream::run(options, move |socket| {
        let hub = hub.clone();
        async move {
            let config = Config::default().frame_size(usize::MAX);
            let socket = match role {
                Role::Server => {
                    let builder = ServerBuilder::new()
                        .config(config)
                        .limits(Limits::unlimited());
                    builder.accept(socket).await.map(|(_, socket)| socket)
                }
                Role::Client => {
                    let builder = ClientBuilder::new()
                        .config(config)
                        .limits(Limits::unlimited());
                    let Ok(builder) = builder.uri(URL) else {
                        return;
                    };
                    builder.connect_on(socket).await.map(|(socket, _)| socket)
                }
            };
            let Ok(socket) = socket else { return };
            match service {
                Service::Echo => stream::echo(socket, batch).await,
                Service::Broadcast => {
                    let announcement = Message::binary(ANNOUNCEMENT.to_vec());
                    stream::broadcast(socket, hub, announcement).await;
                }
            }
        }
    })
}
