/**
 * With Kafka as the change log: a master that was put back, promoted from a standby that was behind, or cloned. It goes on under another number and gets back what the
 * others and its own topic have of what it lost, which some of the others may not have read yet. One cluster: the tests follow each other, all masters are
 * written to, and at the end they hold the same, no acknowledged write is lost, and no deleted row is back.
 */
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { startMasters, type Masters, type TestMaster } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import {
  baseBackup,
  copyFolder,
  goBack,
  identityOf,
  promote,
  query,
  settled,
  Writer,
} from './identity/scene.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { KafkaScene, patient, type Replicator } from './kafka-gaps/scene.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: identity with Kafka (${availability.reason})\n`);
const describeWithKafka = availability.kind === 'available' ? describe : describe.skip;

jest.setTimeout(600_000);
/** Then the dearer ones run as well. */
const long = process.env['PGQUORUM_TEST_LONG'] === '1';
let scene: KafkaScene;
let clones: Masters | undefined;

describeWithKafka('with Kafka as the change log', () => {
  beforeAll(async () => {
    scene = await KafkaScene.start((await sharedKafka()).brokers);
  }, 400_000);

  afterAll(async () => {
    await scene?.[Symbol.asyncDispose]();
    await clones?.[Symbol.asyncDispose]();
  }, 60_000);

  test('a master that was put back takes another number, and gets back what only its topic still has', async () => {
    const { masters, replicators, writers, fixture } = scene;
    const first = masters[0]!;
    const copy = join(fixture.folder, 'backup-first');
    await first.stop();
    await copyFolder(first.dataDir, copy);
    await first.start();
    await scene.arrived(1, () => writers[0]!.kept.at(-1));
    for (const at of [1, 2]) await replicators[at]!.kill('SIGKILL');
    const missed = await scene.written(0);
    await writers[0]!.pause();
    await fed(first);
    const { spare } = await identityOf(first);
    await scene.showsAndMends({ from: 'n1', to: 1, reason: /n1 goes on under another number/ }, async () => {
      await first.kill9();
      await copyFolder(copy, first.dataDir);
      writers[0]!.resume();
      await first.start();
      await eventually('the spare number', async () => (await identityOf(first)).number === spare, patient);
      // Whatever it does about the others' half, it does now: they hold nothing yet of what it lost.
      await eventually(
        'it waits for what the others have not read, or has copied without it',
        async () => /copying waits until/.test(replicators[0]!.told()) || (await allCopied(first)),
        patient,
      );
      for (const at of [0, 1, 2]) expect(await scene.isThere(at, missed)).toBe(false);
      for (const at of [1, 2]) replicators[at]!.start();
    });
    expect(await scene.happened(0, 'renumbered')).toBe(1);
    await settled(scene);
    for (const at of [0, 1, 2]) await scene.arrived(at, () => missed);
    await scene.allReady();
  });

  if (long)
    test('a standby that was behind and is promoted takes another number', async () => {
      const { masters, fixture } = scene;
      const third = masters[2]!;
      const copy = join(fixture.folder, 'backup-third');
      await baseBackup(third, copy, []);
      await scene.written(2);
      const promoting = goBack(scene, 2, async () => {
        await copyFolder(copy, third.dataDir);
        writeFileSync(join(third.dataDir, 'standby.signal'), '');
      });
      await eventually('the standby is up', () => isStandby(third), patient);
      await promote(third);
      await promoting;
      expect(await scene.happened(2, 'renumbered')).toBe(1);
      const after = await scene.written(2);
      for (const at of [0, 1]) await scene.arrived(at, () => after);
      await scene.allReady();
    });

  if (long)
    test('a clone stays out while the master lives, and follows it under another number', async () => {
      const { masters, replicators, writers } = scene;
      const first = masters[0]!;
      const { number, spare } = await identityOf(first);
      const clone = await cloneOf(first);
      const withClone = [clone, ...masters.slice(1)];
      // On a busy machine the master may be silent for a while: that is not to be taken for its end.
      const more = { PGQUORUM_FAILURE_TIMEOUT_MS: '30000' };
      const served = scene.replicator('n1', withClone, { log: 'clone', more });
      served.start();
      await using gateway = await gatewayOf(withClone);
      await showsAsOther(served, gateway);
      await query(clone, `insert into docs values ('a slip', '[1,2,3]', '{}')`);
      const later = await scene.written(0);
      for (const at of [1, 2]) {
        await scene.arrived(at, () => later);
        expect(await scene.isThere(at, 'a slip')).toBe(false);
      }
      expect(await identityOf(first)).toMatchObject({ number, confirmed: true, problem: null });
      expect(await identityOf(clone)).toMatchObject({ number, confirmed: false });

      // The master is gone for good: its clone lacks the end of its past, and what it wrote itself has not left it.
      await writers[0]!.stop();
      await fed(first);
      await Promise.all([replicators[0]!.kill('SIGKILL'), first.kill9()]);
      masters[0] = clone;
      replicators[0] = served;
      // Its address is the master's from here on.
      for (const at of [1, 2]) {
        expect(await replicators[at]!.kill('SIGTERM')).toBe(0);
        replicators[at] = scene.replicator(`n${at + 1}`, withClone, { log: `n${at + 1}-later` });
        replicators[at]!.start();
      }
      await eventually('the spare number', async () => (await identityOf(clone)).number === spare, patient);
      const writer = new Writer(clone, writers[0]!);
      writer.kept.push('a slip');
      writers[0] = writer;
      await settled(scene);
      for (const at of [0, 1, 2]) {
        await scene.arrived(at, () => 'a slip');
        await scene.arrived(at, () => later);
      }
      expect(await scene.happened(0, 'renumbered')).toBe(1);
      await eventually('the gateway is ready', () => isReady(gateway), patient);
    });

  test('in the end all masters hold the same, nothing is lost and nothing deleted is back', () =>
    scene.finish());
});

/** All that is committed on a master now is in its topic. */
async function fed(master: TestMaster): Promise<void> {
  const [end] = await query<{ at: string }>(
    master,
    `select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint::text as at`,
  );
  await eventually(
    `the topic of ${master.name} has all`,
    async () => {
      const rows = await query(
        master,
        `select from pgquorum.progress where log = 'capture' and position >= $1`,
        [end!.at],
      );
      return rows.length > 0;
    },
    patient,
  );
}

const allCopied = async (master: TestMaster): Promise<boolean> =>
  (await query(master, `select from pgquorum.source where log = 'kafka' and state <> 'ready'`)).length === 0;

const isStandby = async (master: TestMaster): Promise<boolean> =>
  (await query<{ standby: boolean }>(master, 'select pg_is_in_recovery() as standby'))[0]!.standby;

const isReady = async (gateway: TestGateway): Promise<boolean> =>
  (await gateway.send('GET', '/readyz')).status === 200;

const gatewayOf = (masters: readonly TestMaster[]): Promise<TestGateway> =>
  startGateway({
    nodes: masters.map(({ name, url, zone }) => ({ name, url, zone })),
    cluster: scene.cluster,
    env: { PGQUORUM_KAFKA_BROKERS: scene.brokers.join(',') },
  });

/** A copy of a master that runs beside it under its name, as after a slip with an address. */
async function cloneOf(master: TestMaster): Promise<TestMaster> {
  clones = await startMasters({ count: 1 });
  const [clone] = clones.nodes as [TestMaster];
  await clone.stop('immediate');
  const copy = join(clones.folder, 'copy');
  await baseBackup(master, copy, []);
  rmSync(clone.dataDir, { recursive: true, force: true });
  await copyFolder(copy, clone.dataDir);
  await clone.start();
  return clone;
}

/** Whoever asks for the clone is told that it is not the master, and by whom that is known. */
async function showsAsOther(replicator: Replicator, gateway: TestGateway): Promise<void> {
  const reason = /another database has told others/;
  await eventually(
    'the gateway shows it',
    async () => {
      const { edges } = (await gateway.send('GET', '/v1/replication/lag')).body as {
        edges: { from: string; to: string; state: string; problem: string | null }[];
      };
      const outOf = edges.filter(({ from }) => from === 'n1');
      return outOf.every(({ state, problem }) => state === 'down' && reason.test(problem ?? ''));
    },
    patient,
  );
  expect((await gateway.send('GET', '/readyz')).status).toBe(503);
  const { status, waiting, stuck } = await eventually('it answers', () => replicator.ready(), patient);
  expect({ status, waiting }).toMatchObject({ status: 503, waiting: expect.arrayContaining(['feed n1']) });
  expect(stuck.join()).toMatch(reason);
}
