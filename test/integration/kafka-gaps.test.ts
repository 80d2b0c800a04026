/**
 * With Kafka as the change log: what a reader has missed is noticed, shown and mended by itself, whoever lost it: topics whose beginning expired or that were
 * deleted, feeds whose slot is gone. All masters are written to all the time, and at the end they hold the same, no acknowledged write is lost, and no deleted row
 * is back. One cluster: the tests follow each other. A broker that dies: kafka-data-loss.test.ts; masters that go back: kafka-identity.test.ts.
 */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { logSlot, topicName } from '#core/topology/names.ts';
import type { NodeNumber } from '#core/versioning/version.ts';
import { identityOf, query } from './identity/scene.ts';
import { KafkaScene, patient } from './kafka-gaps/scene.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: gaps of Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

jest.setTimeout(600_000);
/** Then the dearer ones run as well. */
const long = process.env['PGQUORUM_TEST_LONG'] === '1';
let scene: KafkaScene;

describeWithKafka('with Kafka as the change log', () => {
  beforeAll(async () => {
    scene = await KafkaScene.start((await sharedKafka()).brokers);
  }, 400_000);

  afterAll(() => scene?.[Symbol.asyncDispose](), 60_000);

  if (long)
    test('what expired while a reader was away is noticed, shown and copied', async () => {
      const { masters, replicators } = scene;
      await replicators[1]!.kill('SIGKILL');
      const missed = await scene.written(0);
      await scene.arrived(2, () => missed);
      for (const { name } of masters) if (name !== 'n2') await scene.expire(name);
      expect(await scene.isThere(1, missed)).toBe(false);
      await scene.showsAndMends({ from: 'n1', to: 1, reason: /expired/ }, () => replicators[1]!.start());
      await scene.arrived(1, () => missed);
      await scene.allReady();
    });

  test('a topic that was deleted is made again, and all who read it copy, the one that was away too', async () => {
    const { replicators, cluster } = scene;
    await replicators[2]!.kill('SIGKILL');
    const missed = await scene.written(0);
    await scene.arrived(1, () => missed);
    const generation = await scene.generationAt(1, 'n1');
    await scene.showsAndMends({ from: 'n1', to: 1, reason: /made anew|has no partition|ends before/ }, () =>
      scene.admin.deleteTopics({ topics: [topicName(cluster, 'n1')] }),
    );
    expect(await scene.generationAt(1, 'n1')).not.toBe(generation);
    expect(await scene.isThere(2, missed)).toBe(false);
    await scene.showsAndMends({ from: 'n1', to: 2, reason: /made anew/ }, () => replicators[2]!.start());
    await scene.arrived(2, () => missed);
    await scene.allReady();
  });

  if (long)
    test('what was committed while the slot of a feed was gone is copied by all who read its topic', async () => {
      const { masters, replicators, cluster } = scene;
      const [first] = masters;
      await replicators[0]!.kill('SIGKILL');
      const slot = logSlot(cluster, (await identityOf(first!)).number as NodeNumber);
      await eventually('the slot is dropped', async () => {
        await query(first!, 'select pg_drop_replication_slot($1)', [slot]);
        return true;
      });
      const missed = await scene.written(0);
      await scene.showsAndMends({ from: 'n1', to: 2, reason: /feeds the topic of n1 was made anew/ }, () =>
        replicators[0]!.start(),
      );
      expect(await scene.happened(0, 'slot remade')).toBeGreaterThan(0);
      for (const at of [1, 2]) await scene.arrived(at, () => missed);
      await scene.allReady();
    });

  if (long)
    test('an existing table is attached through the topics', async () => {
      const { masters, gateway } = scene;
      await query(masters[0]!, 'create table notes (no bigint primary key, v vector(2), said text)');
      await query(
        masters[0]!,
        `insert into notes select i, '[1,2]', 'note ' || i from generate_series(1, 300) i`,
      );
      const answer = await gateway.send('POST', '/v1/collections/notes/attach', {
        body: { table: 'public.notes' },
      });
      expect(answer).toMatchObject({ status: 202, body: { created: ['n2', 'n3'] } });
      const { job } = answer.body as { job: { id: string } };
      await query(masters[0]!, `update notes set said = 'changed' where no <= 20`);
      await eventually(
        'the job is done',
        async () => {
          const found = (await gateway.send('GET', `/v1/jobs/${job.id}`)).body as Record<string, unknown>;
          if (found['state'] === 'failed') throw new Error(JSON.stringify(found['error']));
          return found['state'] === 'done';
        },
        patient,
      );
      await query(masters[2]!, `delete from notes where no = 300`);
      const notes = (at: number) => query(masters[at]!, 'select * from notes order by no');
      await eventually('the delete is everywhere', async () => (await notes(0)).length === 299, patient);
      await eventually(
        'all hold the same',
        async () => {
          const all = await Promise.all([0, 1, 2].map(notes));
          return all.every((rows) => JSON.stringify(rows) === JSON.stringify(all[0]));
        },
        patient,
      );
    });

  test('in the end all masters hold the same, nothing is lost and nothing deleted is back', () =>
    scene.finish());
});
