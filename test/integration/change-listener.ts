/** A client of the stream of changes that knows only HTTP: keeps what it is told, and the last position. */
import { once } from 'node:events';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { eventually } from '#core/testing/wait.process.ts';

export interface ToldChange {
  readonly id: string;
  readonly op: string;
  readonly collection: string;
  readonly key: string;
  readonly origin: string;
  readonly committedAt: string;
  readonly version: { readonly counter: string; readonly origin: string; readonly text: string };
  readonly row: Record<string, unknown> | null;
}

export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
}

export class ChangeListener implements AsyncDisposable {
  readonly changes: ToldChange[] = [];
  readonly problems: Problem[] = [];
  positions = 0;
  last = '';
  ended = false;
  #request: http.ClientRequest | null = null;
  #done: Promise<void> = Promise.resolve();

  /** Of a refusal the problem. */
  static async open(
    base: string,
    { from, query = '', key }: { from?: string; query?: string; key?: string } = {},
  ): Promise<ChangeListener | Problem> {
    const listener = new ChangeListener();
    // A connection of its own: those of fetch are opened ahead, and a gateway waits for what a client has not used yet.
    const request = http.get(`${base}/v1/changes/docs${query}`, {
      agent: false,
      headers: {
        ...(from === undefined ? {} : { 'last-event-id': from }),
        ...(key === undefined ? {} : { 'x-api-key': key }),
      },
    });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    if (response.statusCode !== 200) return JSON.parse(await text(response)) as Problem;
    listener.#request = request;
    listener.#done = listener.#read(response);
    await eventually('the stream tells where it begins', () => listener.positions > 0);
    return listener;
  }

  async #read(body: http.IncomingMessage): Promise<void> {
    let waiting = '';
    try {
      for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
        waiting += chunk;
        const blocks = waiting.split('\n\n');
        waiting = blocks.pop()!;
        for (const block of blocks) this.#take(block);
      }
    } catch {
      // ended from either side; the tests look at `ended`
    }
    this.ended = true;
  }

  #take(block: string): void {
    const fields = new Map(
      block.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    const event = fields.get('event');
    if (event === 'error') this.problems.push(JSON.parse(fields.get('data')!) as Problem);
    else if (event === 'position') this.positions += 1;
    else if (event !== undefined) this.changes.push(JSON.parse(fields.get('data')!) as ToldChange);
    this.last = fields.get('id') ?? this.last;
  }

  get keys(): string[] {
    return this.changes.map(({ key }) => key);
  }

  until(count: number): Promise<unknown> {
    return eventually(`${count} changes are told`, () => {
      if (this.ended) throw new Error(`the stream has ended: ${JSON.stringify(this.problems)}`);
      return this.changes.length >= count;
    });
  }

  async close(): Promise<void> {
    this.#request?.destroy();
    await this.#done;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export async function listen(
  base: string,
  options?: Parameters<typeof ChangeListener.open>[1],
): Promise<ChangeListener> {
  const opened = await ChangeListener.open(base, options);
  if (opened instanceof ChangeListener) return opened;
  throw new Error(`refused: ${JSON.stringify(opened)}`);
}
