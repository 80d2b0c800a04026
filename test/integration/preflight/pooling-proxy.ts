/**
 * A connection pooler in transaction mode, as small as it can be: clients are let in at once, with a process id that is made up, and each of their
 * transactions runs on whichever server session is free, the one used last first.
 */
import net from 'node:net';
import pg from 'pg';

interface ServerSession {
  readonly client: pg.Client;
  readonly socket: net.Socket;
}

const message = (type: string, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const text = (value: string): Buffer => Buffer.from(`${value}\0`);

const refuse = (socket: net.Socket, why: string): void =>
  void socket.end(
    message('E', text('SFATAL').subarray(0, -1), text(''), text('C08P01'), text(`M${why}`), Buffer.alloc(1)),
  );

export class PoolingProxy implements AsyncDisposable {
  readonly #target: URL;
  readonly #server: net.Server;
  readonly #clients = new Set<net.Socket>();
  readonly #all: ServerSession[] = [];
  readonly #free: ServerSession[] = [];
  /** As PgBouncer does, unless it is told to ignore them. */
  readonly #refusesOptions: boolean;

  private constructor(target: string, refusesOptions: boolean) {
    this.#target = new URL(target);
    this.#refusesOptions = refusesOptions;
    this.#server = net.createServer((socket) => this.#serve(socket));
  }

  static async start(target: string, { refusesOptions = false } = {}): Promise<PoolingProxy> {
    const proxy = new PoolingProxy(target, refusesOptions);
    for (let at = 0; at < 3; at++) {
      const client = new pg.Client(target);
      client.on('error', () => undefined); // the test's servers may go first
      await client.connect();
      const socket = (client as unknown as { connection: { stream: net.Socket } }).connection.stream;
      socket.removeAllListeners('data');
      const session = { client, socket };
      proxy.#all.push(session);
      proxy.#free.push(session);
    }
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    const url = new URL(this.#target);
    url.port = String((this.#server.address() as net.AddressInfo).port);
    return url.href;
  }

  #serve(socket: net.Socket): void {
    this.#clients.add(socket);
    socket.on('error', () => undefined); // a client that has gone
    let started = false;
    let mine: ServerSession | null = null;
    const onAnswer = (data: Buffer): void => {
      socket.write(data);
      // The last message of an answer says whether a transaction is open.
      if (
        data.length >= 6 &&
        data.readUInt32BE(data.length - 5) === 5 &&
        data.at(-6) === 0x5a &&
        data.at(-1) === 0x49
      )
        release();
    };
    const release = (): void => {
      if (mine === null) return;
      mine.socket.off('data', onAnswer);
      this.#free.push(mine);
      mine = null;
    };
    socket.on('close', release);
    socket.on('data', (data) => {
      if (!started) {
        const given = data.subarray(8).toString().split('\0');
        if (given.includes('replication'))
          return refuse(socket, 'unsupported startup parameter: replication');
        if (this.#refusesOptions && given.includes('options'))
          return refuse(socket, 'unsupported startup parameter: options');
        started = true;
        const madeUp = message('K', int(1_999_999_999), int(7));
        socket.write(Buffer.concat([message('R', int(0)), madeUp, message('Z', Buffer.from('I'))]));
        return;
      }
      if (data[0] === 0x58) return void socket.end(); // the client says good-bye
      if (mine === null) {
        mine = this.#free.pop()!;
        mine.socket.on('data', onAnswer);
      }
      mine.socket.write(data);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#clients) socket.destroy();
    for (const { socket } of this.#all) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
