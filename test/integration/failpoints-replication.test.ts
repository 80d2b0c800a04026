/**
 * Replicators and gateways die by SIGKILL at each step that makes something durable on the way of a change, are started again, and nothing is lost or
 * doubled: all masters hold the same rows, versions and open conflicts, and every acknowledged write is accounted for.
 */
import { describe, expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import type { AppProcess } from './convergence/processes.ts';
import { withClient } from './convergence/states.ts';
import { failpointsOf } from './failpoints/places.ts';
import { definition, Scene } from './failpoints/scene.ts';

const kafka = await kafkaAvailable();
if (kafka.kind === 'unavailable') process.stderr.write(`skipped: Kafka (${kafka.reason})\n`);

const collection = 'docs';

async function put(gateway: AppProcess): Promise<number> {
  const answer = await fetch(`${(await gateway.listening()).http}/v1/collections/${collection}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ dimension: definition.dimension, shards: definition.shards }),
  });
  return answer.status;
}

/** Its gateway dies when one of the masters has the collection. Repeating the call finishes it. */
async function makeCollection(scene: Scene): Promise<void> {
  const gateway = scene.gateway();
  await scene.dies(gateway, 'collections-committed', {
    during: () => expect(put(gateway)).rejects.toThrow('fetch failed'),
  });
  const made = async (place: number): Promise<number> =>
    (await scene.query(place, 'select from pgquorum.collection')).length;
  expect([await made(0), await made(1)]).toEqual([1, 0]);
  await scene.query(
    0,
    `insert into ${collection} (id, embedding) values ('early', array_fill(1, array[8])::vector)`,
  );
  gateway.start();
  expect(await put(gateway)).toBe(201);
  await gateway.kill('SIGTERM');
}

/** A user holds a row for so long that what comes for it is set aside. */
async function setAside(scene: Scene, replicator: AppProcess): Promise<void> {
  await eventually('the row is on both', async () =>
    (await scene.query(1, `select from ${collection} where id = 'held'`)).length === 1 ? true : null,
  );
  await withClient(scene.masters[1]!, async (user) => {
    await user.query(`begin; select from ${collection} where id = 'held' for update`);
    await scene.dies(replicator, 'apply-kept-aside', {
      during: () => scene.query(0, `update ${collection} set metadata = '{"w":"later"}' where id = 'held'`),
    });
    await user.query('commit');
  });
}

async function dropSlot(scene: Scene): Promise<void> {
  await eventually('nobody reads the slot, and it is dropped', async () => {
    const dropped = await scene.query(
      0,
      `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active and slot_name like '%' || $1 || '%'`,
      [scene.cluster],
    );
    return dropped.length === 1;
  });
}

describe('a process that dies and comes back', () => {
  test('loses and doubles nothing on its way from slot to slot, through the WAL', async () => {
    await using scene = await Scene.open(2);
    const first = scene.replicator(0);
    const second = scene.replicator(1);
    await scene.dies(first, 'source-announced');
    await scene.dies(second, 'source-slot-made');
    await scene.dies(second, 'source-slot-made');
    for (const replicator of [first, second]) replicator.start();
    await scene.ready();
    await makeCollection(scene);
    await scene.query(
      0,
      `insert into ${collection} (id, embedding) values ('held', array_fill(1, array[8])::vector)`,
    );
    await scene.write(collection);
    await setAside(scene, second);
    await Promise.all([
      scene.dies(first, 'apply-rows-written', { time: 2 }),
      scene.dies(second, 'apply-versions-written', { time: 2 }),
    ]);
    await Promise.all([
      scene.dies(first, 'apply-commit-sent', { time: 3 }),
      scene.dies(second, 'apply-committed', { time: 3 }),
    ]);
    first.start();
    // More than one batch of the copying.
    await scene.query(
      0,
      `insert into ${collection} (id, embedding) select 'more' || i, array_fill(1, array[8])::vector from generate_series(1, 700) i`,
    );
    await dropSlot(scene);
    await scene.dies(second, 'resync-slot-noted');
    await scene.dies(second, 'resync-position-kept');
    await scene.dies(second, 'resync-chunk-merged', { time: 2 });
    await scene.dies(second, 'resync-cursor-saved');
    await scene.dies(second, 'resync-copied');
    second.start();
    await scene.ready();
    await scene.converged(collection);
    expect([...scene.reached].toSorted()).toEqual(failpointsOf('wal').toSorted());
  }, 400_000);

  const throughKafka = kafka.kind === 'available' ? test : test.skip;
  throughKafka(
    'loses and doubles nothing between slot and topic, and between topic and master',
    async () => {
      await using scene = await Scene.open(2, {
        PGQUORUM_KAFKA_BROKERS: (await sharedKafka()).brokers.join(','),
      });
      const nodes = scene.addresses();
      await foundCluster({ nodes, cluster: scene.cluster, log: 'kafka' });
      await createCollection({ nodes, name: collection, definition });
      await scene.write(collection);
      const first = scene.replicator(0);
      const second = scene.replicator(1);
      await Promise.all([
        scene.dies(first, 'feed-appended', { time: 3 }),
        scene.dies(second, 'feed-position-saved', { time: 2 }),
      ]);
      for (const replicator of [first, second]) replicator.start();
      await scene.converged(collection);
      expect([...scene.reached].toSorted()).toEqual(failpointsOf('kafka').toSorted());
    },
    400_000,
  );
});
