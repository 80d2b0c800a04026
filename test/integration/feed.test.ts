/** The feed of a log from the WAL: what happens to its position when the origin or the log fails under it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import pg from 'pg';
import type { LogBatch } from '#core/changelog/change.ts';
import { runFeed } from '#core/changelog/feed.pg.ts';
import { MemoryLog } from '#core/changelog/memory.ts';
import type { ChangeLogWriter } from '#core/changelog/port.ts';
import { WalChangeLog } from '#core/changelog/wal.pg.ts';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster, type ClusterNode } from '#core/topology/found.pg.ts';

interface Fed {
  readonly log: MemoryLog;
  readonly origin: ClusterNode;
  readonly client: pg.Client;
  readonly feed: (wrap?: (writer: ChangeLogWriter) => ChangeLogWriter) => {
    readonly stop: () => void;
    readonly ended: Promise<unknown>;
  };
  readonly keys: () => Promise<string[]>;
}

async function withFeed(work: (fed: Fed) => Promise<void>): Promise<void> {
  await using fresh: FreshNodes = await freshNodes({ count: 2 });
  const nodes = fresh.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
  const [origin] = await foundCluster({ nodes, cluster: fresh.cluster, log: 'kafka' });
  await createCollection({ nodes, name: 'docs', definition: testDefinition });
  const client = new pg.Client({ connectionString: nodes[0]!.url });
  await client.connect();
  const log = new MemoryLog({ origin: origin!.number, streams: 1 });
  const running: (() => Promise<unknown>)[] = [];
  try {
    await work({
      log,
      origin: origin!,
      client,
      feed: (wrap = (writer) => writer) => {
        const stopped = new AbortController();
        const ended = runFeed(
          {
            origin: origin!,
            openReader: (start) =>
              new WalChangeLog({
                node: origin!.address,
                origin: origin!.number,
                slot: start.source.slot!,
                publication: start.source.publication,
                transactionBytesMax: 64 * 1024 * 1024,
              }),
            openWriter: () => Promise.resolve(wrap(log.writer())),
            batchSize: 1,
            idleProgressMs: 0,
          },
          stopped.signal,
        ).then(
          () => null,
          (cause: unknown) => cause,
        );
        running.push(() => {
          stopped.abort();
          return ended;
        });
        return { stop: () => stopped.abort(), ended };
      },
      keys: () => keysIn(log),
    });
  } finally {
    await Promise.all(running.map((stop) => stop()));
    await client.end();
  }
}

async function keysIn(log: MemoryLog): Promise<string[]> {
  const reader = log.reader();
  const { end } = (await reader.positions()).get(0) ?? { end: -1n };
  const keys: string[] = [];
  const done = new AbortController();
  if (end < 0n) return keys;
  for await (const batch of reader.read({ from: new Map(), signal: done.signal })) {
    for (const change of batch.changes) if (change.kind === 'write') keys.push(change.key[0]!);
    if (batch.position === end) done.abort();
  }
  return keys;
}

/** Waits until the expectation holds. */
const holds = (expectation: () => Promise<void>) =>
  eventually('the log holds what was written', async () => {
    await expectation();
    return true;
  });

const insert = (client: pg.Client, id: string) =>
  client.query(`insert into docs (id, embedding) values ($1, '[1,2,3]')`, [id]);

test('losing the origin while the position is saved ends the feed with an error, and the next one leaves nothing out', async () => {
  const unhandled: unknown[] = [];
  const note = (cause: unknown) => unhandled.push(cause);
  process.on('unhandledRejection', note);
  await withFeed(async ({ client, feed, keys }) => {
    const first = feed();
    await insert(client, 'a');
    await holds(async () => expect(await keys()).toContain('a'));
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgquorum feed %' and datname = current_database()`,
    );
    await insert(client, 'b');
    await insert(client, 'c');
    expect(await first.ended).toBeInstanceOf(Error);
    const second = feed();
    await insert(client, 'd');
    await holds(async () => expect(new Set(await keys())).toEqual(new Set(['a', 'b', 'c', 'd'])));
    second.stop();
    expect(await second.ended).toBeNull();
  });
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
}, 120_000);

test('after an append that the log refused no later one moves the position', async () => {
  await withFeed(async ({ client, feed, keys }) => {
    let refused = false;
    const first = feed((writer) => ({
      positions: () => writer.positions(),
      close: () => writer.close(),
      // Refuses the one with key b, and takes those after it: worse than any writer may behave.
      append: async (batches: readonly LogBatch[]) => {
        if (
          batches.some((batch) =>
            batch.changes.some((change) => change.kind === 'write' && change.key[0] === 'b'),
          )
        ) {
          await sleep(300); // so late that those after it are under way
          refused = true;
          throw new Error('refused');
        }
        await writer.append(batches);
      },
    }));
    await insert(client, 'a');
    await holds(async () => expect(await keys()).toEqual(['a']));
    await client.query(`begin; insert into docs (id, embedding) values ('b', '[1,2,3]'); commit`);
    await insert(client, 'c');
    await sleep(400);
    await insert(client, 'd');
    expect(await first.ended).toBeInstanceOf(Error);
    expect(refused).toBe(true);
    feed();
    await holds(async () => expect(new Set(await keys())).toEqual(new Set(['a', 'b', 'c', 'd'])));
  });
}, 120_000);
