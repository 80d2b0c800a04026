/** A TCP proxy before a master that can lose what goes through it. */
import net from 'node:net';

/** Hands a connection through until it is told to lose what follows. */
export async function flakyProxy(target: URL) {
  const sockets = new Set<net.Socket>();
  const proxy = { cutOnCommit: false, swallow: false, url: '', close: async () => {} };
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => [client, upstream].forEach((one) => one.destroy()));
    }
    client.on('data', (data) => {
      if (proxy.swallow) return;
      upstream.write(data);
      // The commit gets through, its answer does not.
      if (proxy.cutOnCommit && data.includes('commit\0')) setTimeout(() => client.destroy(), 30);
    });
    upstream.on('data', (data) => {
      if (proxy.swallow || (proxy.cutOnCommit && data.includes('COMMIT\0'))) return;
      client.write(data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const through = new URL(target);
  through.port = String((server.address() as net.AddressInfo).port);
  proxy.url = through.href;
  proxy.close = async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  return proxy;
}
