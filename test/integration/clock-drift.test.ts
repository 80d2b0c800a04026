/** G3 with a master whose clock is wrong: what has seen a write never loses to it. And the wrong clock is named. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { createLogger } from '#core/observability/logger.process.ts';
import { foundOn, type TestCluster } from '#core/testing/cluster.pg.ts';
import { FakeClock, findFakeClock } from '#core/testing/fake-clock.os.ts';
import { startMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { startReplicator } from '../../apps/replicator/src/app.module.ts';
import { settingsFor, startGateway, type TestGateway } from './gateway-fixture.ts';

const found = findFakeClock();
const missing = 'missing' in found ? found.missing : undefined;
if (missing !== undefined) process.stderr.write(`skipped: a master with a wrong clock (${missing})\n`);

/** The place of the master whose clock is set. */
const wrong = 2;
const places = [0, 1, wrong];
const hour = 3600;
const day = 86_400;

interface NodeItem {
  id: string;
  status: string;
  clockOffsetMs: number | null;
  problem: string | null;
}

(missing === undefined ? describe : describe.skip)('a master whose clock is wrong', () => {
  let clock: FakeClock;
  let masters: Masters;
  let cluster: TestCluster;
  let replicator: INestApplicationContext;
  let gateway: TestGateway;

  beforeAll(async () => {
    if ('missing' in found) throw new Error(found.missing);
    clock = new FakeClock(found.library);
    masters = await startMasters({
      count: 3,
      environment: (place): Readonly<Record<string, string>> => (place === wrong ? clock.environment : {}),
    });
    cluster = await foundOn(masters.nodes, { cluster: 'clocks', collections: ['docs'] });
    const settings = settingsFor(masters.nodes, 'clocks', { PGQUORUM_HEARTBEAT_INTERVAL_MS: '100' });
    replicator = await startReplicator(settings, createLogger({ app: 'test', level: 'silent' }));
    gateway = await startGateway({ nodes: masters.nodes, cluster: 'clocks' });
  }, 120_000);

  afterAll(async () => {
    await gateway[Symbol.asyncDispose]();
    await replicator.close();
    await cluster[Symbol.asyncDispose]();
    await masters[Symbol.asyncDispose]();
    clock[Symbol.dispose]();
  });

  const nodes = async () =>
    ((await gateway.send('GET', '/v1/cluster/nodes')).body as { items: NodeItem[] }).items;
  const textOf = async (place: number, id: string) =>
    (
      await cluster.query<{ text: string }>(
        place,
        `select metadata ->> 'text' as text from docs where id = $1`,
        [id],
      )
    )[0]?.text;
  const hlcOf = async (place: number, id: string) =>
    BigInt(
      (
        await cluster.query<{ hlc: string }>(
          place,
          'select hlc::text as hlc from pgquorum.version_docs where id = $1',
          [id],
        )
      )[0]!.hlc,
    );
  const put = (place: number, id: string, text: string) =>
    cluster.query(
      place,
      `insert into docs (id, embedding, metadata) values ($1, '[1,2,3]', jsonb_build_object('text', $2::text))
       on conflict (id) do update set metadata = excluded.metadata`,
      [id, text],
    );
  const offsetIs = (seconds: number) =>
    eventually(
      `n3 is seen ${seconds} s ahead`,
      async () => Math.abs(((await nodes())[wrong]!.clockOffsetMs ?? NaN) - seconds * 1000) < 400,
    );
  /** Waits until what was written at one master is there at another, as somebody who reads there would see it. */
  const seen = (place: number, id: string, text: string) =>
    eventually(`${text} is at n${place + 1}`, async () => (await textOf(place, id)) === text);

  /** Writes a key at one master after the other, each after having seen the write before; the clock may be set in between. */
  async function chain(id: string, steps: number, between: (step: number) => void): Promise<string> {
    let last = '';
    let hlc = -1n;
    for (let step = 0; step < steps; step++) {
      // All pairs of masters, in both directions, and twice at the same one.
      const place = places[[0, 2, 1, 2, 2, 0, 1, 0][step % 8]!]!;
      if (last !== '') await seen(place, id, last);
      between(step);
      await put(place, id, (last = `${id} ${step}`));
      const next = await hlcOf(place, id);
      expect(next > hlc).toBe(true);
      hlc = next;
    }
    for (const place of places) await seen(place, id, last);
    return last;
  }

  async function agree(): Promise<void> {
    const [one, ...others] = await cluster.states('docs');
    for (const other of others) expect(other).toEqual(one);
  }
  const records = async (id: string) =>
    cluster.query(0, 'select from pgquorum.conflict where key = $1', [id]);

  test.each([
    ['an hour ahead', hour],
    ['a day behind', -day],
  ])(
    '%s: the last of a chain of writes stands on all masters, and the clock is reported',
    async (name, offset) => {
      clock.set(offset);
      await offsetIs(offset);
      expect(await nodes()).toMatchObject([
        { id: 'n1', status: 'alive', problem: null },
        { id: 'n2', status: 'alive', problem: null },
        { id: 'n3', status: 'degraded', problem: 'clock_drift' },
      ]);
      for (const near of (await nodes()).slice(0, 2)) expect(Math.abs(near.clockOffsetMs!)).toBeLessThan(400);
      const metrics = (await gateway.send('GET', '/metrics')).body as string;
      const shown = Number(/^pgquorum_clock_offset_ms\{.*node="n3".*\} (\S+)$/m.exec(metrics)?.[1]);
      expect(Math.abs(shown - offset * 1000)).toBeLessThan(400);
      const problem = expect.stringMatching(
        `^clock_drift: the clock of node n3 .* ${offset > 0 ? 'ahead of' : 'behind'} the median`,
      );
      // Replication moves all the same.
      await eventually('nothing but the clock is wrong', async () => {
        const { problems } = (await gateway.send('GET', '/v1/cluster/health')).body as { problems: string[] };
        return problems.length === 1;
      });
      expect((await gateway.send('GET', '/v1/cluster/health')).body).toMatchObject({
        status: 'degraded',
        healthyNodes: 2,
        problems: [problem],
      });
      expect(await gateway.send('GET', '/readyz')).toMatchObject({
        status: 200,
        body: { problems: [problem] },
      });

      const ids = [1, 2, 3, 4].map((number) => `${name} ${number}`);
      await Promise.all(ids.map((id) => chain(id, 8, () => undefined)));
      for (const id of ids) expect(await records(id)).toEqual([]);
      await agree();
    },
    120_000,
  );

  test('stepping back and forth between the writes: no hlc goes back, and what was seen is never what stands', async () => {
    clock.set(hour);
    const steps = [-hour, hour, -day, day, 0, -1, 1, 0];
    const ids = [1, 2, 3].map((number) => `step ${number}`);
    await Promise.all(ids.map((id) => chain(id, 16, (step) => clock.set(steps[step % steps.length]!))));
    for (const id of ids) expect(await records(id)).toEqual([]);
    await agree();
  }, 120_000);

  test('concurrent writes: a clock that is behind loses, and wins as soon as it has seen', async () => {
    clock.set(-day);
    await offsetIs(-day);
    await Promise.all(places.map((place) => put(place, 'race', `race ${place}`)));
    const races = async () => Promise.all(places.map((place) => textOf(place, 'race')));
    await eventually('the masters agree', async () => new Set(await races()).size === 1);
    expect(await races()).not.toContain('race 2');
    await put(wrong, 'race', 'after');
    await eventually('the write that has seen the others stands', async () =>
      (await races()).every((text) => text === 'after'),
    );
    await agree();
  }, 60_000);

  test('a clock that is set right again is no problem any more', async () => {
    clock.set(0);
    await offsetIs(0);
    // Its last heartbeat seems a day old until the next one.
    await eventually('all are alive', async () =>
      (await nodes()).every(({ status, problem }) => status === 'alive' && problem === null),
    );
  }, 60_000);
});
