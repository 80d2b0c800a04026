/** A proxy in front of a gateway that now and then does what networks and busy servers do. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { Readable } from 'node:stream';

export type Fault =
  /** Answers in the gateway's place. */
  | { readonly kind: 'answer'; readonly status: number; readonly headers?: Record<string, string> }
  /** The gateway does what it was asked for, and its answer is lost. */
  | { readonly kind: 'lost' }
  /** The answer breaks off. */
  | { readonly kind: 'cut'; readonly afterBytes: number };

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

export class FaultyProxy implements AsyncDisposable {
  readonly seen: Seen[] = [];
  /** One for each request, in order; none left: they pass. */
  faults: Fault[] = [];
  readonly #gateway: string;
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  private constructor(gateway: string) {
    this.#gateway = gateway;
  }

  static async open(gateway: string): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(gateway);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET', url = '/', headers } = request;
    this.seen.push({ method, path: url, headers });
    const fault = this.faults.shift();
    const body = await buffer(request);
    if (fault?.kind === 'answer') {
      response.writeHead(fault.status, fault.headers).end('busy');
      return;
    }
    const { host: _, connection: __, 'content-length': ___, ...passed } = headers;
    const answer = await fetch(this.#gateway + url, {
      method,
      headers: passed as Record<string, string>,
      ...(body.length === 0 ? {} : { body: new Uint8Array(body) }),
    });
    if (fault?.kind === 'lost') {
      await answer.arrayBuffer();
      response.destroy();
      return;
    }
    response.writeHead(answer.status, {
      'content-type': answer.headers.get('content-type') ?? 'text/plain',
    });
    if (answer.body === null) {
      response.end();
      return;
    }
    const source = Readable.fromWeb(answer.body as never);
    response.on('close', () => source.destroy());
    source.on('error', () => response.destroy());
    let passedBytes = 0;
    for await (const part of source as AsyncIterable<Buffer>) {
      response.write(part);
      passedBytes += part.length;
      if (fault?.kind === 'cut' && passedBytes >= fault.afterBytes) response.destroy();
    }
    response.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
