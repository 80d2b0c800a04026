/**
 * A TCP proxy in the test's process, in front of a server, that does to what goes through it what networks do. Each direction has its own faults, which hold
 * from the next bytes on, for connections that are open and for new ones.
 *
 * A connection of which bytes were swallowed stays silent for good, also after `heal`: what TCP has lost it would have sent again, and a stream with a hole is
 * something that no network makes. Who waits on it has to notice by himself.
 */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface DirectionFaults {
  /** Every piece comes so much later, and up to `jitterMs` more; none overtakes another. */
  delayMs: number;
  jitterMs: number;
  bytesPerSecond: number;
  /** Takes what comes and hands nothing on. */
  swallow: boolean;
  /** The same for one connection, from the first piece on for which it is true. */
  swallowFrom: ((piece: Buffer) => boolean) | null;
  /** Resets the connection in the middle of the first piece for which it is true: the first half has arrived. */
  cutWithin: ((piece: Buffer) => boolean) | null;
}

const healthy = (): DirectionFaults => ({
  delayMs: 0,
  jitterMs: 0,
  bytesPerSecond: Infinity,
  swallow: false,
  swallowFrom: null,
  cutWithin: null,
});

/** Beyond it a socket is not read. */
const heldBytesMax = 256 * 1024;

interface Connection {
  readonly client: net.Socket;
  readonly server: net.Socket;
  silent: boolean;
}

export class FaultProxy implements AsyncDisposable {
  readonly toServer = healthy();
  readonly toClient = healthy();
  /** New connections are refused by a reset. */
  refuse = false;
  /** How many were ever opened. */
  opened = 0;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #connections = new Set<Connection>();
  readonly #server: net.Server;

  static async before(
    target: { readonly host: string; readonly port: number },
    port = 0,
  ): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(port, '127.0.0.1', resolve);
    });
    return proxy;
  }

  /** Before the database at the address. */
  static beforeUrl(url: string): Promise<FaultProxy> {
    const { hostname: host, port } = new URL(url);
    return FaultProxy.before({ host, port: Number(port) });
  }

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
    this.#server = net.createServer((client) => this.#accept(client));
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  get open(): number {
    return this.#connections.size;
  }

  /** The address that leads through here. */
  through(url: string): string {
    const changed = new URL(url);
    changed.hostname = '127.0.0.1';
    changed.port = String(this.port);
    return changed.href;
  }

  /** Both directions take everything and hand nothing on. */
  blackHole(): void {
    this.toServer.swallow = true;
    this.toClient.swallow = true;
  }

  /** Ends all that are open as a machine does that has no such connection. */
  reset(): void {
    for (const connection of this.#connections) end(connection);
  }

  heal(): void {
    Object.assign(this.toServer, healthy());
    Object.assign(this.toClient, healthy());
    this.refuse = false;
  }

  #accept(client: net.Socket): void {
    client.on('error', () => undefined);
    if (this.refuse) {
      client.resetAndDestroy();
      return;
    }
    this.opened += 1;
    const server = net.connect({ ...this.#target, noDelay: true });
    client.setNoDelay(true);
    const connection: Connection = { client, server, silent: false };
    this.#connections.add(connection);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#connections.delete(connection);
        // Behind a black hole nobody hears that the other side has gone.
        if (!connection.silent || socket === client) other.destroy();
      });
    }
    this.#pipe(connection, { from: client, to: server, faults: this.toServer });
    this.#pipe(connection, { from: server, to: client, faults: this.toClient });
  }

  #pipe(
    connection: Connection,
    { from, to, faults }: { from: net.Socket; to: net.Socket; faults: DirectionFaults },
  ): void {
    let held = 0;
    let before = Promise.resolve();
    let freeAt = 0;
    from.on('data', (piece) => {
      if (faults.swallow || faults.swallowFrom?.(piece) === true) connection.silent = true;
      if (connection.silent) return;
      held += piece.length;
      if (held > heldBytesMax) from.pause();
      const now = performance.now();
      freeAt = Math.max(freeAt, now) + (piece.length / faults.bytesPerSecond) * 1000;
      const dueAt = Math.max(freeAt, now + faults.delayMs + Math.random() * faults.jitterMs);
      const direct = held === piece.length && dueAt - now < 1;
      const hand = (): void => {
        held -= piece.length;
        if (held <= heldBytesMax) from.resume();
        if (connection.silent || to.destroyed) return;
        if (faults.cutWithin?.(piece) === true) {
          to.write(piece.subarray(0, Math.ceil(piece.length / 2)), () => end(connection));
          connection.silent = true;
        } else to.write(piece);
      };
      if (direct) hand();
      else before = before.then(() => sleep(Math.max(0, dueAt - performance.now()))).then(hand);
    });
    from.on('end', () => void before.then(() => (connection.silent ? undefined : to.end())));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { client, server } of this.#connections) for (const one of [client, server]) one.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function end({ client, server }: Connection): void {
  client.resetAndDestroy();
  server.resetAndDestroy();
}
