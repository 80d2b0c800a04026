/** SQL clients who write all the time, each on one master, whether it holds what they write or not. Each key has one writer, so what it wrote last is what has to stand. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const keysEach = 40;

export class ShardUsers {
  /** Key -> the last number that was acknowledged, and whether it is a row. */
  readonly written = new Map<string, number>();
  /** SQLSTATEs of statements that a node refused. */
  readonly refused: string[] = [];
  readonly #stopped = new AbortController();
  readonly #writing: Promise<unknown>;

  constructor(masters: readonly { readonly name: string; readonly url: string }[], collection: string) {
    this.#writing = Promise.all(masters.map((master) => this.#write(master, collection)));
    this.#writing.catch(() => undefined); // whoever stops them hears of it
  }

  async #write(master: { readonly name: string; readonly url: string }, collection: string): Promise<void> {
    const client = new pg.Client({ connectionString: master.url, application_name: 'a user' });
    client.on('error', () => undefined); // the statement that notices it rejects
    await client.connect();
    try {
      for (let at = 0; !this.#stopped.signal.aborted; at += 1) {
        const key = `${master.name}-${at % keysEach}`;
        try {
          await client.query(
            `insert into ${collection} (id, embedding, metadata) values ($1, $2, $3) on conflict (id) do update set embedding = excluded.embedding, metadata = excluded.metadata`,
            [key, `[${at},1,1,1,1,1,1,1]`, JSON.stringify({ at })],
          );
          this.written.set(key, at);
        } catch (cause) {
          const { code } = cause as { code?: string };
          this.refused.push(code ?? String(cause));
          // The node goes: what is written there later is nobody's business.
          if (code === 'PQ013') return;
        }
        await sleep(20);
      }
    } finally {
      await client.end();
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#writing;
  }

  /** Writes that are not what the states hold. */
  missing(states: ReadonlyMap<string, string>): string[] {
    return [...this.written].flatMap(([key, at]) => {
      const state = states.get(key);
      return state?.includes(`""at"": ${at}}`) === true ? [] : [`${key} (${at}): ${state}`];
    });
  }
}
