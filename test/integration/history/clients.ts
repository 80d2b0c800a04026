/** Clients of several gateways that write and read a few keys at all levels, and note what they were told. */
import { performance } from 'node:perf_hooks';
import type { Prng } from '../../simulation/prng.ts';
import type { TestGateway } from '../gateway-fixture.ts';
import type { Event, Level, Shown, WriteEvent } from './check.ts';

const keys = 10;
const levels: readonly Level[] = ['one', 'quorum', 'quorum', 'quorum', 'all'];
const timeoutMs = 1500;
/** Writes whose tokens a client still remembers. */
const rememberedMax = 5;

interface WrittenBody {
  readonly results?: readonly { readonly version: Shown; readonly reached?: Level }[];
  readonly version?: Shown;
  readonly token?: string | null;
}

interface Remembered {
  readonly write: WriteEvent;
  readonly token: string;
}

export interface ClientOptions {
  readonly name: string;
  readonly gateways: readonly TestGateway[];
  readonly random: Prng;
  readonly until: () => boolean;
  readonly note: (event: Event) => void;
}

export async function runClient(options: ClientOptions): Promise<void> {
  const { random, gateways } = options;
  const remembered: Remembered[] = [];
  for (let count = 0; !options.until(); count += 1) {
    const gateway = gateways[random.below(gateways.length)]!;
    const key = `k${random.below(keys)}`;
    const level = levels[random.below(levels.length)]!;
    const chance = random.below(100);
    if (chance < 40)
      await write(options, { gateway, key, level, marker: `${options.name}-${count}` }, remembered);
    else if (chance < 45) await remove(options, { gateway, key, level }, remembered);
    else if (chance < 60 && remembered.length > 0)
      await readByToken(options, gateway, remembered[random.below(remembered.length)]!);
    else await read(options, { gateway, key, level: level === 'one' ? 'quorum' : level });
  }
}

interface Call {
  readonly gateway: TestGateway;
  readonly key: string;
  readonly level: Level;
}

/** Half of what failed is sent once more, through another gateway: it must count as one write. */
async function write(
  options: ClientOptions,
  call: Call & { readonly marker: string },
  remembered: Remembered[],
): Promise<void> {
  const { gateway, key, level, marker } = call;
  const send = (through: TestGateway) =>
    through.send('POST', `/v1/collections/docs/vectors?consistency=${level}&timeoutMs=${timeoutMs}`, {
      body: { vectors: [{ id: key, embedding: [1, 2, 3], metadata: { marker } }] },
      headers: { 'idempotency-key': marker },
    });
  const began = performance.now();
  let answer = await send(gateway);
  if (answer.status >= 500 && options.random.below(2) === 0)
    answer = await send(options.gateways[options.random.below(options.gateways.length)]!);
  noteWrite(options, { kind: 'write', key, level, began, ended: performance.now() }, answer, remembered);
}

async function remove(
  options: ClientOptions,
  { gateway, key, level }: Call,
  remembered: Remembered[],
): Promise<void> {
  const began = performance.now();
  const answer = await gateway.send(
    'DELETE',
    `/v1/collections/docs/vectors/${key}?consistency=${level}&timeoutMs=${timeoutMs}`,
  );
  if (answer.status === 404) return;
  noteWrite(options, { kind: 'delete', key, level, began, ended: performance.now() }, answer, remembered);
}

function noteWrite(
  { note }: ClientOptions,
  about: Pick<WriteEvent, 'kind' | 'key' | 'level' | 'began' | 'ended'>,
  answer: { readonly status: number; readonly body: unknown },
  remembered: Remembered[],
): void {
  const body = answer.body as WrittenBody;
  if (answer.status !== 200) {
    const nothing = (answer.body as { code?: string }).code === 'replicas_unavailable';
    // Of a request that was sent twice the first one may stand.
    note({ ...about, outcome: nothing && about.kind === 'delete' ? 'fail' : 'unknown', version: null });
    return;
  }
  const told = body.results?.[0]?.version ?? body.version!;
  const version = { text: told.text, hlc: told.hlc ?? '0', clock: told.clock ?? {} };
  const event: WriteEvent = { ...about, outcome: 'ok', version };
  note(event);
  if (typeof body.token !== 'string') return;
  remembered.push({ write: event, token: body.token });
  if (remembered.length > rememberedMax) remembered.shift();
}

async function read({ note }: ClientOptions, { gateway, key, level }: Call): Promise<void> {
  const began = performance.now();
  const { status, body } = await gateway.send(
    'GET',
    `/v1/collections/docs/vectors/${key}?consistency=${level}&timeoutMs=${timeoutMs}`,
  );
  noteRead(note, { key, level, began, token: null }, status, body);
}

async function readByToken(
  { note }: ClientOptions,
  gateway: TestGateway,
  { write: named, token }: Remembered,
): Promise<void> {
  const began = performance.now();
  const { status, body } = await gateway.send(
    'GET',
    `/v1/collections/docs/vectors/${named.key}?token=${token}&timeoutMs=${timeoutMs}`,
  );
  noteRead(note, { key: named.key, level: 'one', began, token: named }, status, body);
}

/** A read that failed says nothing. */
function noteRead(
  note: (event: Event) => void,
  about: {
    readonly key: string;
    readonly level: Level;
    readonly began: number;
    readonly token: WriteEvent | null;
  },
  status: number,
  body: unknown,
): void {
  if (status !== 200 && status !== 404) return;
  const version = status === 404 ? null : (body as { version: Shown }).version;
  note({ kind: 'read', ...about, ended: performance.now(), version });
}
