"""Runs the suite's `wstest` so that it listens on 127.0.0.1 alone: by itself a fuzzing server takes all interfaces.

For the suite's own Python 2.7. The arguments are wstest's.
"""

import sys

from twisted.internet import reactor


def on_loopback(listen, interface_at):
    def wrapped(*args, **kwargs):
        args = args[:interface_at]
        kwargs["interface"] = "127.0.0.1"
        port = listen(*args, **kwargs)
        # The script waits for this line: port 0 lets the system choose.
        sys.stdout.write("listening on %d\n" % port.getHost().port)
        sys.stdout.flush()
        return port

    return wrapped


# listenTCP(port, factory, backlog, interface) and listenSSL(port, factory, contextFactory, backlog, interface)
reactor.listenTCP = on_loopback(reactor.listenTCP, 3)
reactor.listenSSL = on_loopback(reactor.listenSSL, 4)

from autobahntestsuite import wstest  # noqa: E402, after the reactor was changed

wstest.run()
