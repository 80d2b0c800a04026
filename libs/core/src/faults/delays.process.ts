/**
 * Random pauses before everything that goes to a server: a statement, an acknowledgement, a request. What follows one another in a few microseconds everywhere
 * else then has time for anything to come in between. Nothing is slowed down unless `arm.process.ts` was told to.
 */
import net from 'node:net';

const delayMs = { least: 1, most: 100 } as const;
/** What tests set their clusters up with, and gateways, whose answers have deadlines. */
const setUp = /^pgquorum (founding|opening|create|change|drop|attach|dump|migrate|gateway)\b/;

let random: (() => number) | null = null;

export function armDelays(seed: number): void {
  random = mulberry32(seed);
}

export const delaysAreArmed = (): boolean => random !== null;

/** What makes the sockets of connections under that name; null = their driver does. */
export function delayedSocketsOf(application: string): (() => net.Socket) | null {
  return random === null || setUp.test(application) ? null : () => new DelayedSocket();
}

interface Chunk {
  readonly chunk: Buffer;
  readonly encoding: BufferEncoding;
}
type Done = (error?: Error | null) => void;
const plain = net.Socket.prototype as net.Socket & { _writev(chunks: readonly Chunk[], done: Done): void };

class DelayedSocket extends net.Socket {
  override _write(chunk: Buffer, encoding: BufferEncoding, done: Done): void {
    setTimeout(() => plain._write.call(this, chunk, encoding, done), pauseMs());
  }

  override _writev(chunks: readonly Chunk[], done: Done): void {
    this.#inTurn(statementsOf(chunks), done);
  }

  #inTurn([first, ...others]: readonly (readonly Chunk[])[], done: Done): void {
    const next: Done = (error) => {
      if (error || others.length === 0) done(error);
      else this.#inTurn(others, done);
    };
    setTimeout(() => plain._writev.call(this, first!, next), pauseMs());
  }
}

const pauseMs = (): number => delayMs.least + (random?.() ?? 0) * (delayMs.most - delayMs.least);

/** A statement of Postgres's protocol ends with Sync, or is one message by itself. */
const syncTag = 0x53;
const queryTag = 0x51;

function statementsOf(chunks: readonly Chunk[]): Chunk[][] {
  const statements: Chunk[][] = [[]];
  for (const [at, one] of chunks.entries()) {
    statements.at(-1)!.push(one);
    const tag = one.chunk[0];
    if ((tag === syncTag || tag === queryTag) && at < chunks.length - 1) statements.push([]);
  }
  return statements;
}

/** A small seeded generator: 32 bits of state. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
