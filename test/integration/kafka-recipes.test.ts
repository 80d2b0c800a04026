/** The recipes of docs/kafka.md, as they stand there, each as a process that knows Kafka and the .proto file only. */
import { describe, expect, jest, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LogBatch, WriteChange } from '#core/changelog/change.ts';
import { changeCodec } from '#core/changelog/schema.files.ts';
import { KafkaLogWriter } from '#core/changelog/writer.kafka.ts';
import { projectRoot } from '#core/config/project-root.files.ts';
import { run } from '#core/embedded/process.os.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { pythonWith } from '#core/testing/python-packages.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { topicName } from '#core/topology/names.ts';
import type { Epoch, HlcValue, NodeNumber, ShardNumber } from '#core/versioning/version.ts';

jest.setTimeout(180_000);
const kafka = await kafkaAvailable();
const python =
  kafka.kind === 'available' ? await pythonWith('kafka', ['kafka-python', 'grpcio-tools']) : kafka;
if (kafka.kind === 'unavailable') process.stderr.write(`skipped: recipes for consumers (${kafka.reason})\n`);
else if (python.kind === 'unavailable')
  process.stderr.write(`skipped: the recipe for consumers in Python (${python.reason})\n`);
const describeWithKafka = kafka.kind === 'available' ? describe : describe.skip;
const testWithPython = python.kind === 'available' ? test : test.skip;

const text = readFileSync(join(projectRoot, 'docs/kafka.md'), 'utf8');
/** A recipe and what it prints. */
function recipe(language: string): { code: string; expected: string[] } {
  const found = new RegExp(
    `\`\`\`${language}\\n(import[\\s\\S]*?)\`\`\`\\s+prints\\s+\`\`\`\\n([\\s\\S]*?)\`\`\``,
  ).exec(text)!;
  return { code: found[1]!, expected: found[2]!.trimEnd().split('\n') };
}

interface Write {
  readonly key: string;
  readonly title?: string;
  readonly hlc: bigint;
}

const table = {
  collection: 'docs',
  columns: [
    { name: 'id', type: 'text', isKey: true },
    { name: 'embedding', type: 'vector', isKey: false },
    { name: 'metadata', type: 'jsonb', isKey: false },
  ],
};

/** [1, 0.5, 0] */
const embedding = Buffer.from('000300003f8000003f00000000000000', 'hex');

class Origin {
  readonly #number: NodeNumber;
  readonly #writer: KafkaLogWriter;
  #counter = 0;

  static async open(brokers: string[], cluster: string, name: string, number: number): Promise<Origin> {
    const origin = number as NodeNumber;
    const topic = topicName(cluster, name);
    const settings = { partitions: 2 };
    const codec = changeCodec();
    return new Origin(origin, await KafkaLogWriter.open({ kafka: { brokers }, topic, origin, originName: name, codec, settings })); // prettier-ignore
  }

  constructor(number: NodeNumber, writer: KafkaLogWriter) {
    this.#number = number;
    this.#writer = writer;
  }

  async write({ key, title, hlc }: Write): Promise<void> {
    const counter = (this.#counter += 1);
    const deleted = title === undefined;
    const version = { rank: 0, epoch: 0n as Epoch, hlc: hlc as HlcValue, dot: { origin: this.#number, counter }, clock: { [this.#number]: counter }, deleted, request: null, crdt: null }; // prettier-ignore
    const values = [Buffer.from(key), embedding, Buffer.from(`\x01{"title": "${title}"}`)];
    const change: WriteChange = { kind: 'write', collection: 'docs', key: [key], shard: 1 as ShardNumber, version, row: deleted ? null : { table, values }, seen: null, losers: [], requests: [] }; // prettier-ignore
    const batch: LogBatch = { origin: this.#number, stream: 0, changes: [change, { kind: 'heartbeat' }], position: BigInt(counter), commitTimeMs: Date.now(), commitLsn: BigInt(counter), bytes: 0 }; // prettier-ignore
    // Twice, as after a crash.
    await this.#writer.append([batch, batch]);
  }

  close(): Promise<void> {
    return this.#writer.close();
  }
}

/** Runs it beside two masters that write, until it has printed what is expected. */
async function printed(
  command: string,
  args: readonly string[],
  options: { cwd: string; lines: number },
): Promise<string[]> {
  const { brokers } = await sharedKafka();
  const cluster = `r${randomBytes(4).toString('hex')}`;
  const tokyo = await Origin.open(brokers, cluster, 'tokyo', 1);
  const paris = await Origin.open(brokers, cluster, 'paris', 2);
  await tokyo.write({ key: 'a', title: 'first', hlc: 200n });
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: {
      ...process.env,
      BROKERS: brokers.join(','),
      CLUSTER: cluster,
      PROTO: join(projectRoot, 'libs/core/proto'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => (output += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (errors += part));
  const exited = once(child, 'exit');
  const lines = (): string[] =>
    output
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('docs '));
  const until = (count: number): Promise<unknown> =>
    eventually(
      `${count} lines are printed`,
      () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${errors}`);
        return lines().length >= count;
      },
      { withinMs: 60_000 },
    ).catch((cause: unknown) => {
      throw new Error(`${(cause as Error).message}: ${output}${errors.slice(-2000)}`, { cause });
    });
  try {
    await until(1);
    await paris.write({ key: 'a', title: 'older, and lost', hlc: 100n });
    await paris.write({ key: 'b', title: 'second', hlc: 300n });
    await until(2);
    await tokyo.write({ key: 'a', hlc: 400n });
    await until(options.lines);
    return lines();
  } finally {
    child.kill('SIGKILL');
    await exited;
    await Promise.all([tokyo.close(), paris.close()]);
  }
}

describeWithKafka('the recipes for consumers', () => {
  test('in kafkajs', async () => {
    const { code, expected } = recipe('js');
    // Within the package, so that it finds kafkajs.
    const file = join(projectRoot, `.kafka-recipe-${process.pid}.mjs`);
    writeFileSync(file, code);
    try {
      expect(await printed(process.execPath, [file], { cwd: projectRoot, lines: expected.length })).toEqual(
        expected,
      );
    } finally {
      rmSync(file);
    }
  });

  testWithPython('in Python', async () => {
    if (python.kind !== 'available') throw new Error('there is no Python');
    const { code, expected } = recipe('python');
    const folder = mkdtempSync(join(tmpdir(), 'pgquorum-recipe-'));
    try {
      const proto = join(projectRoot, 'libs/core/proto');
      const compiled = await run(python.python, ['-m', 'grpc_tools.protoc', '-I', proto, `--python_out=${folder}`, 'pgquorum/v1/change.proto']); // prettier-ignore
      expect(compiled).toMatchObject({ code: 0 });
      writeFileSync(join(folder, 'consumer.py'), code);
      expect(await printed(python.python, ['consumer.py'], { cwd: folder, lines: expected.length })).toEqual(
        expected,
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
