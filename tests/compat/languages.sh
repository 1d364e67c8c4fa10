# languages.sh - programs in languages that bring their own ways with sockets. Sourced by run.sh.
# shellcheck shell=bash

cases_languages() {
	cat <<-'EOF'
		python_http|60|server client loopback|python: `http.server` (threads), `urllib`
		python_asyncio|60|server client loopback|python: `asyncio` streams, 100 connections
		python_forking|60|server client loopback|python: `socketserver.ForkingMixIn`
		python_mp|60|server client loopback|python: `multiprocessing` connections and a manager
		python_ssl|60|server client loopback|python: `ssl` with threads
		node_http|60|server client loopback|node: `http` server and client, 50 at once
		node_cluster|60|server loopback|node: `cluster` with 2 workers
		perl|60|server client loopback|perl: `IO::Socket::INET`, a fork per connection
		java|90|server client loopback|Java (JVM): NIO selector, threads, `java.net.http`
		rust|90|server client loopback|Rust: `std::net`, a thread per connection
	EOF
}
PY=/usr/bin/python3

# python_echo: a client with COUNT connections at once; each sends www/two and must get it back.
echo_client() { # PORT COUNT
	cat >echo.py <<-'END'
		import socket, sys, threading
		data, bad = open("www/two", "rb").read(), []
		def one():
		    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
		    def send():
		        s.sendall(data)
		        s.shutdown(socket.SHUT_WR)
		    t = threading.Thread(target=send)
		    t.start()
		    got = bytearray()
		    while True:
		        b = s.recv(65536)
		        if not b: break
		        got += b
		    t.join()
		    if got != data: bad.append(len(got))
		ts = [threading.Thread(target=one) for i in range(int(sys.argv[3]))]
		for t in ts: t.start()
		for t in ts: t.join()
		print("wrong lengths:", bad) if bad else None
		sys.exit(bool(bad))
	END
	C $PY echo.py "$ADDR" "$1" "$2" || fail "the bytes differ"
}

c_python_http() {
	serve 8000 $PY -m http.server 8000 --bind 0.0.0.0 --directory "$WORK/www"
	cat >get.py <<-'END'
		import concurrent.futures, sys, urllib.request
		want = {n: open("www/" + n, "rb").read() for n in ("big", "two", "small")}
		get = lambda n: urllib.request.urlopen("http://%s:8000/%s" % (sys.argv[1], n)).read() == want[n]
		with concurrent.futures.ThreadPoolExecutor(8) as e:
		    sys.exit(not all(e.map(get, ["big"] + ["two", "small"] * 10)))
	END
	C $PY get.py "$ADDR" || fail "the bytes differ"
	end TERM any
}

c_python_asyncio() {
	cat >server.py <<-'END'
		import asyncio
		async def talk(r, w):
		    while b := await r.read(65536):
		        w.write(b)
		        await w.drain()
		    w.close()
		async def main():
		    s = await asyncio.start_server(talk, "0.0.0.0", 7001, backlog=256)
		    async with s: await s.serve_forever()
		asyncio.run(main())
	END
	cat >client.py <<-'END'
		import asyncio, hashlib, sys
		async def one(i):
		    r, w = await asyncio.open_connection(sys.argv[1], 7001)
		    data = hashlib.sha256(str(i).encode()).digest() * 3000
		    w.write(data); w.write_eof()
		    got = await r.read()
		    w.close()
		    return got == data
		async def main(): return all(await asyncio.gather(*(one(i) for i in range(100))))
		sys.exit(not asyncio.run(main()))
	END
	serve 7001 $PY server.py
	C $PY client.py "$ADDR" || fail "the bytes differ"
	echo_client 7001 4
}

c_python_forking() {
	cat >server.py <<-'END'
		import socketserver
		class H(socketserver.StreamRequestHandler):
		    def handle(self):
		        while b := self.request.recv(65536): self.request.sendall(b)
		class S(socketserver.ForkingMixIn, socketserver.TCPServer):
		    allow_reuse_address = True
		    request_queue_size = 64
		S(("0.0.0.0", 7001), H).serve_forever()
	END
	serve 7001 $PY server.py
	echo_client 7001 8
	echo_client 7001 8
}

c_python_mp() {
	cat >server.py <<-'END'
		import threading
		from multiprocessing.connection import Listener
		from multiprocessing.managers import BaseManager
		store = {}
		class M(BaseManager): pass
		M.register("store", lambda: store)
		threading.Thread(target=M(("0.0.0.0", 7002), b"key").get_server().serve_forever, daemon=True).start()
		with Listener(("0.0.0.0", 7001), authkey=b"key") as l:
		    while True:
		        c = l.accept()
		        threading.Thread(target=lambda c=c: [c.send(x) for x in iter(c.recv, None)]).start()
	END
	cat >client.py <<-'END'
		import sys
		from multiprocessing.connection import Client
		from multiprocessing.managers import BaseManager
		class M(BaseManager): pass
		M.register("store")
		with Client((sys.argv[1], 7001), authkey=b"key") as c:
		    for i in range(100):
		        x = {"n": i, "l": list(range(i)), "b": bytes(i * 5000)}
		        c.send(x)
		        assert c.recv() == x
		    c.send(None)
		m = M((sys.argv[1], 7002), b"key")
		m.connect()
		s = m.store()
		s.update({i: i * i for i in range(1000)})
		assert len(s.keys()) == 1000 and s.get(999) == 998001
	END
	serve 7001 $PY server.py
	wait_port 7002
	C $PY client.py "$ADDR" || fail "the objects differ"
}

c_python_ssl() {
	needs openssl
	certificate || fail "no certificate"
	cat >server.py <<-'END'
		import socket, ssl, threading
		x = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
		x.load_cert_chain("both.pem")
		l = socket.create_server(("0.0.0.0", 7001), backlog=64)
		def talk(c):
		    with x.wrap_socket(c, server_side=True) as s:
		        n = int.from_bytes(s.recv(4), "big")
		        got = b""
		        while len(got) < n: got += s.recv(65536)
		        s.sendall(got)
		        s.unwrap()
		while True: threading.Thread(target=talk, args=(l.accept()[0],)).start()
	END
	cat >client.py <<-'END'
		import concurrent.futures, socket, ssl, sys
		x = ssl.create_default_context(cafile="cert.pem")
		data = open("www/two", "rb").read()
		def one(i):
		    with x.wrap_socket(socket.create_connection((sys.argv[1], 7001)), server_hostname="localhost") as s:
		        s.sendall(len(data).to_bytes(4, "big"))
		        s.sendall(data)
		        got = b""
		        while b := s.recv(65536): got += b
		        return got == data
		with concurrent.futures.ThreadPoolExecutor(6) as e: sys.exit(not all(e.map(one, range(12))))
	END
	serve 7001 $PY server.py
	C $PY client.py "$ADDR" || fail "the bytes differ"
}

node_client() { # PORT
	cat >client.js <<-'END'
		const http = require('http'), fs = require('fs'), crypto = require('crypto');
		const [host, port] = process.argv.slice(2);
		const two = fs.readFileSync('www/two'), pids = new Set();
		const agent = new http.Agent({keepAlive: true, maxSockets: 20});
		function one(i) {
			return new Promise((done, bad) => {
				const body = crypto.createHash('sha256').update('' + i).digest();
				const r = http.request({host, port, method: 'POST', path: '/' + i, agent: i % 2 ? agent : false}, (a) => {
					const parts = [];
					a.on('data', (d) => parts.push(d));
					a.on('end', () => {
						pids.add(a.headers['x-pid']);
						Buffer.concat(parts).equals(Buffer.concat([body, two])) ? done() : bad('other bytes');
					});
				});
				r.on('error', bad);
				r.end(body);
			});
		}
		Promise.all(Array.from({length: 50}, (_, i) => one(i)))
			.then(() => { agent.destroy(); console.log(pids.size); }, (e) => { console.error(e); process.exit(1); });
	END
	C node client.js "$ADDR" "$1" >pids || fail "node: status $?"
}
node_handler() {
	cat <<-'END'
		const http = require('http'), fs = require('fs'), cluster = require('cluster');
		const two = fs.readFileSync('www/two');
		const serve = (port) => http.createServer((q, a) => {
			const parts = [];
			q.on('data', (d) => parts.push(d));
			q.on('end', () => { a.setHeader('x-pid', process.pid); a.end(Buffer.concat([...parts, two])); });
		}).listen(port, '0.0.0.0');
	END
}
c_node_http() {
	needs node
	{
		node_handler
		echo 'serve(7001);'
	} >server.js
	serve 7001 node server.js
	node_client 7001
}
c_node_cluster() {
	needs node
	{
		node_handler
		echo 'if (cluster.isPrimary) { cluster.fork(); cluster.fork(); } else serve(7001);'
	} >server.js
	serve 7001 node server.js
	sleep 1
	node_client 7001
	[ "$(cat pids)" = 2 ] || fail "answers came from $(cat pids) workers"
}

c_perl() {
	needs perl
	cat >server.pl <<-'END'
		use IO::Socket::INET;
		$SIG{CHLD} = 'IGNORE';
		my $l = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => 7001, Listen => 64, ReuseAddr => 1) or die $!;
		while (my $c = $l->accept) {
			next if fork;
			close $l;
			while (my $line = <$c>) { chomp $line; print $c scalar(reverse $line), "\n"; $c->flush; }
			exit;
		}
	END
	cat >client.pl <<-'END'
		use IO::Socket::INET;
		my @c = map { IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 7001) or die $! } 1 .. 10;
		for my $i (1 .. 50) {
			for my $c (@c) { print $c "line $i " . "x" x ($i * 20) . "\n"; $c->flush; }
			for my $c (@c) { my $l = <$c>; chomp $l; die "other bytes" if $l ne reverse "line $i " . "x" x ($i * 20); }
		}
	END
	serve 7001 perl server.pl
	C perl client.pl "$ADDR" || fail "perl: status $?"
}

c_java() {
	needs java
	cat >Server.java <<-'END'
		import java.net.*; import java.nio.*; import java.nio.channels.*; import java.util.*;
		public class Server {
			public static void main(String[] a) throws Exception {
				Selector s = Selector.open();
				ServerSocketChannel l = ServerSocketChannel.open();
				l.bind(new InetSocketAddress("0.0.0.0", 7001), 64);
				l.configureBlocking(false);
				l.register(s, SelectionKey.OP_ACCEPT);
				ServerSocket t = new ServerSocket(7002, 64, InetAddress.getByName("0.0.0.0"));
				new Thread(() -> { try { for (;;) { Socket c = t.accept(); new Thread(() -> {
					try (c) { c.getInputStream().transferTo(c.getOutputStream()); } catch (Exception e) { } }).start(); } } catch (Exception e) { } }).start();
				for (;;) {
					s.select();
					for (Iterator<SelectionKey> i = s.selectedKeys().iterator(); i.hasNext(); ) {
						SelectionKey k = i.next(); i.remove();
						if (k.isAcceptable()) {
							SocketChannel c = l.accept();
							c.configureBlocking(false);
							c.register(s, SelectionKey.OP_READ, ByteBuffer.allocate(65536));
							continue;
						}
						SocketChannel c = (SocketChannel) k.channel(); ByteBuffer b = (ByteBuffer) k.attachment();
						boolean end = k.isReadable() && c.read(b) < 0;
						b.flip(); c.write(b); b.compact();
						if (end && b.position() == 0) { c.close(); continue; }
						if (!end) k.interestOps((b.position() > 0 ? SelectionKey.OP_WRITE : 0) | (b.hasRemaining() ? SelectionKey.OP_READ : 0));
						else k.interestOps(SelectionKey.OP_WRITE);
					}
				}
			}
		}
	END
	cat >Client.java <<-'END'
		import java.net.*; import java.net.http.*; import java.nio.file.*; import java.util.*; import java.util.concurrent.*;
		public class Client {
			public static void main(String[] a) throws Exception {
				byte[] data = Files.readAllBytes(Path.of("www/two"));
				ExecutorService e = Executors.newCachedThreadPool();
				List<Future<Boolean>> all = new ArrayList<>();
				for (int i = 0; i < 8; i++) {
					int port = 7001 + i % 2;
					all.add(e.submit(() -> { try (Socket s = new Socket(a[0], port)) {
						Future<?> f = e.submit(() -> { s.getOutputStream().write(data); s.shutdownOutput(); return 0; });
						boolean same = Arrays.equals(s.getInputStream().readAllBytes(), data);
						f.get();
						return same; } }));
				}
				for (Future<Boolean> f : all) if (!f.get()) { System.err.println("other bytes"); System.exit(1); }
				HttpResponse<byte[]> r = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://" + a[0] + ":" + a[1] + "/big")).build(),
					HttpResponse.BodyHandlers.ofByteArray());
				System.exit(Arrays.equals(r.body(), Files.readAllBytes(Path.of("www/big"))) ? 0 : 2);
			}
		}
	END
	web_server
	serve 7001 java -Xmx256m Server.java
	wait_port 7002
	C java -Xmx256m Client.java "$ADDR" $WEB || fail "java: status $?"
}

c_rust() {
	local rustc
	rustc=$(command -v rustc || ls /root/.cargo/bin/rustc 2>/dev/null) || needs rustc
	cp "$ROOT"/tests/compat/greeter.rs . && HOME=/root "$rustc" -O -o greeter greeter.rs >rustc.log 2>&1 || fail "rustc: $(tail -n5 rustc.log)"
	serve 7001 ./greeter serve 0.0.0.0:7001 0.0.0.0:7002
	wait_port 7002
	C ./greeter talk "$ADDR:7001" "$ADDR:7002" || fail "greeter: status $?"
}
