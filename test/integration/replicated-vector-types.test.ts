/** Sparse vectors and vectors of bits on three masters with a gateway beside each: written on one, found on all; a conflict, and what becomes of it. */
import type { INestApplicationContext } from '@nestjs/common';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '#core/observability/logger.process.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';
import { GrpcClient } from './grpc-client.ts';

let fresh: Awaited<ReturnType<typeof freshNodes>>;
/** One in the zone of each master, which it reads from. */
const gateways: TestGateway[] = [];
const clients: GrpcClient[] = [];
let replicator: INestApplicationContext | undefined;

const startReplication = async () => {
  replicator ??= await startReplicator(
    settingsFor(fresh.nodes, fresh.cluster),
    createLogger({ app: 'test', level: 'silent' }),
  );
};

beforeAll(async () => {
  fresh = await freshNodes({ count: 3 });
  for (const { zone } of fresh.nodes) {
    const { nodes, cluster } = fresh;
    gateways.push(await startGateway({ nodes, cluster, env: { PGQUORUM_ZONE: zone } }));
  }
  clients.push(...gateways.map(({ gateway }) => new GrpcClient(gateway.grpcPort)));
  for (const { name, definition } of cases) {
    const body = { ...definition, conflicts: { strategy: 'vector-clock' } };
    expect((await gateways[0]!.send('PUT', `/v1/collections/${name}`, { body })).status).toBe(201);
  }
  // Both are there before anything is replicated: neither has seen the other.
  for (const { name, ours, theirs } of cases) {
    await write(0, name, 'both', ours);
    await write(1, name, 'both', theirs);
  }
  await startReplication();
}, 180_000);

afterAll(async () => {
  await replicator?.close();
  for (const client of clients) client[Symbol.dispose]();
  for (const gateway of gateways) await gateway[Symbol.asyncDispose]();
  await fresh[Symbol.asyncDispose]();
});

const sparse = (indices: number[], values: number[]) => ({ indices, values, dimension: 100_000 });
const cases = [
  ...['hnsw', 'none'].map((type) => ({
    name: `sparse_${type}`,
    definition: { dimension: 100_000, vectorType: 'sparsevec', metric: 'l2', index: { type } },
    ours: sparse([0, 99_999], [1, 0.5]),
    theirs: sparse([7], [-3.25]),
    resolved: sparse([0, 7, 99_999], [1, -3.25, 0.5]),
    empty: sparse([], []),
    form: 'sparse',
  })),
  ...['hnsw', 'none'].map((type) => ({
    name: `bits_${type}`,
    definition: { dimension: 11, vectorType: 'bit', metric: 'jaccard', index: { type } },
    ours: '11111000001',
    theirs: '00000111110',
    resolved: '10101010101',
    empty: '00000000000',
    form: 'bits',
  })),
];

async function write(place: number, name: string, id: string, embedding: unknown): Promise<void> {
  const answer = await gateways[place]!.send('POST', `/v1/collections/${name}/vectors?coordinator=nearest`, {
    body: { vectors: [{ id, embedding, metadata: { place } }] },
  });
  expect(answer).toMatchObject({
    status: 200,
    body: { results: [{ coordinator: fresh.nodes[place]!.name }] },
  });
}

/** The nearest ones as each master finds them. */
const searchAll = (name: string, body: object) =>
  Promise.all(
    gateways.map(async (gateway, place) => {
      const answer = await gateway.send('POST', `/v1/collections/${name}/search`, { body });
      expect(answer).toMatchObject({ status: 200, body: { nodes: [fresh.nodes[place]!.name] } });
      return (answer.body as { matches: { id: string; distance: number; embedding?: unknown }[] }).matches;
    }),
  );

const rows = (name: string, id: string) =>
  Promise.all(
    gateways.map(
      async (gateway, place) =>
        (
          await gateway.sql<{ embedding: string }>(
            place,
            `select embedding::text, metadata from ${name} where id = $1`,
            [id],
          )
        )[0],
    ),
  );

/** As SQL clients see it. */
const textOf = (embedding: unknown): string => {
  if (typeof embedding === 'string') return embedding;
  const { indices, values, dimension } = embedding as ReturnType<typeof sparse>;
  return `{${indices.map((index, at) => `${index + 1}:${values[at]}`).join(',')}}/${dimension}`;
};

const same = (values: readonly unknown[]) => new Set(values.map((value) => JSON.stringify(value))).size === 1;

test.each(cases)('$name: what one master takes is found on all', async ({ name, resolved, empty }) => {
  const items = { near: resolved, empty, none: null };
  for (const [id, embedding] of Object.entries(items)) await write(2, name, id, embedding);
  await eventually('all are on all masters', async () => {
    const [near, zero, none] = await Promise.all(Object.keys(items).map((id) => rows(name, id)));
    return [near, zero, none].every((found) => found!.every((row) => row !== undefined));
  });
  for (const [id, embedding] of Object.entries(items)) {
    expect(same(await rows(name, id))).toBe(true);
    for (const gateway of gateways)
      expect((await gateway.send('GET', `/v1/collections/${name}/vectors/${id}`)).body).toMatchObject({
        embedding,
        metadata: { place: 2 },
      });
  }
  for (const near of [{ embedding: resolved }, { id: 'near' }])
    for (const matches of await searchAll(name, { ...near, k: 1, include: ['embedding'] }))
      expect(matches).toEqual([{ id: 'near', distance: 0, score: 1, embedding: resolved }]);
});

test.each(cases)(
  '$name: of two concurrent writes one wins, the other is a sibling, and a resolve with an embedding ends it',
  async ({ name, ours, theirs, resolved, form }) => {
    interface Read {
      embedding: unknown;
      siblings: { conflictId: string; embedding: unknown }[];
    }
    const read = async (gateway: TestGateway) =>
      (await gateway.send('GET', `/v1/collections/${name}/vectors/both?include=siblings`)).body as Read;
    const reads = await eventually('the conflict is known to all', async () => {
      const found = await Promise.all(gateways.map(read));
      return found.every(({ siblings }) => siblings?.length === 1) && same(await rows(name, 'both'))
        ? found
        : null;
    });
    for (const one of reads)
      expect(
        [one.embedding, one.siblings[0]!.embedding].map((value) => JSON.stringify(value)).toSorted(),
      ).toEqual([ours, theirs].map((value) => JSON.stringify(value)).toSorted());
    const { conflictId, embedding: lost } = reads[0]!.siblings[0]!;
    const conflict = (await gateways[0]!.send('GET', `/v1/conflicts/${conflictId}`)).body as {
      loser: { row: { embedding: string } };
    };
    expect(conflict.loser.row.embedding).toBe(textOf(lost));
    const bad = await gateways[0]!.send('POST', `/v1/conflicts/${conflictId}/resolve`, {
      body: { embedding: [1, 2, 3] },
    });
    expect(bad).toMatchObject({ status: 400, body: { code: 'invalid_vector' } });
    expect(await read(gateways[0]!)).toEqual(reads[0]);
    await clients[1]!.call('Replication', 'ResolveConflict', {
      id: conflictId,
      embedding: { [form]: resolved },
    });
    await eventually('the resolved vector is everywhere', async () =>
      (await Promise.all(gateways.map(read))).every(
        ({ embedding, siblings }) =>
          siblings.length === 0 && JSON.stringify(embedding) === JSON.stringify(resolved),
      ),
    );
    await eventually('by search too', async () =>
      (await searchAll(name, { embedding: resolved })).every((matches) =>
        matches.some(({ id, distance }) => id === 'both' && distance === 0),
      ),
    );
    expect(same(await rows(name, 'both'))).toBe(true);
  },
);

test.each(cases)(
  '$name: gRPC writes, reads, finds and refuses the same',
  async ({ name, ours, empty, form }) => {
    const [client] = clients;
    const write = await client!.call('Vectors', 'Upsert', {
      collection: name,
      vectors: [
        { id: 'g', embedding: { [form]: ours } },
        { id: 'z', embedding: { [form]: empty } },
        { id: 'numbers', embedding: { values: [1, 2] } },
        {
          id: 'other',
          embedding:
            form === 'bits' ? { bits: '1' } : { sparse: { indices: [1], values: [1], dimension: 2 } },
        },
        {
          id: 'range',
          embedding: form === 'bits' ? { bits: '1x' } : { sparse: { indices: [100_000], values: [1] } },
        },
      ],
    });
    expect(write['results']).toMatchObject([
      { id: 'g', error: null },
      { id: 'z', error: null },
      { error: { code: 'invalid_vector' } },
      { error: { code: 'dimension_mismatch' } },
      { error: { code: 'invalid_vector' } },
    ]);
    const read = await client!.call('Vectors', 'Get', { collection: name, ids: ['g', 'z'] });
    expect(read['results']).toMatchObject([
      { id: 'g', embedding: { [form]: ours } },
      { id: 'z', embedding: { [form]: empty } },
    ]);
    await eventually('it is found where the search goes', async () => {
      const found = await client!.call('Vectors', 'Search', {
        collection: name,
        embedding: { [form]: ours },
        include: ['embedding'],
      });
      const match = (found['matches'] as { id: string }[]).find(({ id }) => id === 'g');
      if (match !== undefined)
        expect(match).toMatchObject({ distance: 0, score: 1, embedding: { [form]: ours } });
      return match !== undefined;
    });
    await expect(
      client!.call('Vectors', 'Search', { collection: name, embedding: { values: [1, 2] } }),
    ).rejects.toMatchObject({ message: expect.stringContaining('embedding') });
  },
);
