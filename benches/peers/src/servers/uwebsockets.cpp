/* uWebSockets as its examples show it: arguments ROLE DEFLATE, prints its port. */
#include "App.h"

#include <cstring>
#include <iostream>

struct PerSocketData {};

static const char *ALL = "all";
static const std::string ANNOUNCEMENT(64, 'b');

int main(int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    const bool broadcast = !strcmp(argv[1], "broadcast");
    uWS::CompressOptions compression = uWS::DISABLED;
    if (!strcmp(argv[2], "shared")) {
        compression = uWS::CompressOptions(uWS::SHARED_COMPRESSOR | uWS::SHARED_DECOMPRESSOR);
    } else if (!strcmp(argv[2], "dedicated")) {
        compression = uWS::CompressOptions(uWS::DEDICATED_COMPRESSOR_256KB | uWS::DEDICATED_DECOMPRESSOR);
    }
    const bool compress = compression != uWS::DISABLED;
    uWS::App app;
    app.ws<PerSocketData>("/*", {
        .compression = compression,
        .maxPayloadLength = 64 * 1024 * 1024,
        .idleTimeout = 0,
        .maxBackpressure = 64 * 1024 * 1024,
        .closeOnBackpressureLimit = false,
        .resetIdleTimeoutOnSend = false,
        .sendPingsAutomatically = false,
        .upgrade = nullptr,
        .open = [broadcast](auto *ws) {
            if (broadcast) {
                ws->subscribe(ALL);
            }
        },
        .message = [&app, broadcast, compress](auto *ws, std::string_view message, uWS::OpCode opCode) {
            if (!broadcast) {
                ws->send(message, opCode, compress);
                return;
            }
            for (int i = 0; i < message[0]; i++) {
                app.publish(ALL, ANNOUNCEMENT, uWS::OpCode::BINARY);
            }
        },
    }).listen("127.0.0.1", 0, [](auto *listen_socket) {
        if (listen_socket) {
            std::cout << us_socket_local_port(0, (struct us_socket_t *) listen_socket) << std::endl;
        }
    }).run();
}
