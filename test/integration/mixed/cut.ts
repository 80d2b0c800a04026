/** A TCP proxy between one process and one master, which can be cut: connections end and new ones are refused, or nothing goes through any more. */
import net from 'node:net';

export type CutKind = 'refuse' | 'silence';

export class Line implements AsyncDisposable {
  readonly #sockets = new Set<net.Socket>();
  readonly #server: net.Server;
  #cut: CutKind | null = null;

  private constructor(target: URL) {
    this.#server = net.createServer((client) => {
      if (this.#cut === 'refuse') return void client.destroy();
      const upstream = net.connect(Number(target.port), target.hostname);
      for (const [one, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        this.#sockets.add(one);
        one.setNoDelay(true);
        one.on('error', () => undefined); // close follows
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        // What is sent during a silence is lost with its connection: nothing of it comes later.
        one.on('data', (data) => {
          if (this.#cut !== 'silence') other.write(data);
        });
      }
    });
  }

  /** A line to the server of this address; the address through it. */
  static async to(address: string): Promise<{ line: Line; url: string }> {
    const through = new URL(address);
    const line = new Line(new URL(address));
    await new Promise<void>((resolve) => line.#server.listen(0, '127.0.0.1', resolve));
    through.port = String((line.#server.address() as net.AddressInfo).port);
    return { line, url: through.href };
  }

  cut(kind: CutKind): void {
    this.#cut = kind;
    if (kind === 'refuse') this.#endAll();
  }

  /** Connections that were silent would miss what was lost, so they end. */
  heal(): void {
    if (this.#cut === 'silence') this.#endAll();
    this.#cut = null;
  }

  #endAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#endAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
