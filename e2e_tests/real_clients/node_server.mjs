// An echo server of `ws`. Says where it listens; a text "close CODE REASON" makes it close.

import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: process.env.WSLOOP_DEFLATE !== undefined, maxPayload: 1 << 25 });
server.on("listening", () => console.log(`listening on ${server.address().port}`));
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    if (text.startsWith("close ")) {
      const [, code, ...reason] = text.split(" ");
      socket.close(Number(code), reason.join(" "));
    } else {
      socket.send(data, { binary: isBinary });
    }
  });
});
