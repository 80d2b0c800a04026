/**
 * Many clients, three gateways and five masters that are killed, fall silent and come back: every write that was acknowledged at QUORUM or ALL is read by every later read at
 * QUORUM, a read with a token sees its write, and in the end every master has seen every acknowledged write. PGQUORUM_TEST_SEED replays the choices, not the time.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { foundOn } from '#core/testing/cluster.pg.ts';
import { startMasters, type Masters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Prng } from '../simulation/prng.ts';
import { AppProcess } from './convergence/processes.ts';
import { FaultProxy } from './fault-proxy.ts';
import { startGateway } from './gateway-fixture.ts';
import { problemsOf, type Event } from './history/check.ts';
import { runClient } from './history/clients.ts';

const long = process.env['PGQUORUM_TEST_LONG'] === '1';
const seed = Number(process.env['PGQUORUM_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const writingMs = long ? 180_000 : 20_000;
const [mastersCount, gatewaysCount, clientsCount] = [5, 3, 9];

/** What each gateway reaches each master through. */
type Links = readonly (readonly FaultProxy[])[];

const faults: Readonly<
  Record<string, (world: { masters: Masters; links: Links; random: Prng }) => Promise<void>>
> = {
  'a master is killed and comes back': async ({ masters, random }) => {
    const master = masters.nodes[random.below(mastersCount)]!;
    await master.kill9();
    await sleep(500 + random.below(1500));
    await master.start();
  },
  'a master falls silent for all': async ({ links, random }) => {
    const place = random.below(mastersCount);
    for (const ofGateway of links) ofGateway[place]!.blackHole();
    await sleep(500 + random.below(2000));
    for (const ofGateway of links) ofGateway[place]!.heal();
  },
  'a gateway loses two masters': async ({ links, random }) => {
    const ofGateway = links[random.below(gatewaysCount)]!;
    const first = random.below(mastersCount);
    const cut = [first, (first + 1 + random.below(mastersCount - 1)) % mastersCount].map(
      (place) => ofGateway[place]!,
    );
    for (const link of cut) {
      link.refuse = true;
      link.reset();
    }
    await sleep(500 + random.below(2000));
    for (const link of cut) link.heal();
  },
  'connections are lost': async ({ links, random }) => {
    links[random.below(gatewaysCount)]![random.below(mastersCount)]!.reset();
    await sleep(100);
  },
};

test(
  'no acknowledged write is missed by a later read, whatever dies meanwhile',
  async () => {
    process.stderr.write(`history: PGQUORUM_TEST_SEED=${seed}\n`);
    const random = new Prng(seed);
    await using stack = new AsyncDisposableStack();
    const masters = stack.use(await startMasters({ count: mastersCount }));
    const cluster = stack.use(await foundOn(masters.nodes, { cluster: 'history', collections: ['docs'] }));
    const folder = await mkdtemp(join(tmpdir(), 'pgquorum-history-'));
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const replicator = new AppProcess(
      'replicator',
      {
        PGQUORUM_NODES: JSON.stringify(masters.nodes.map(({ name, url, zone }) => ({ name, url, zone }))),
        PGQUORUM_CLUSTER: 'history',
        PGQUORUM_HEARTBEAT_INTERVAL_MS: '200',
      },
      join(folder, 'replicator.log'),
      { restarts: true },
    );
    replicator.start();
    stack.defer(async () => void (await replicator.kill('SIGTERM')));
    const links = await Promise.all(
      Array.from({ length: gatewaysCount }, () =>
        Promise.all(masters.nodes.map(({ url }) => FaultProxy.beforeUrl(url))),
      ),
    );
    for (const link of links.flat()) stack.use(link);
    const gateways = await Promise.all(
      links.map((ofGateway) =>
        startGateway({
          nodes: masters.nodes.map((node, place) => ({ ...node, url: ofGateway[place]!.through(node.url) })),
          cluster: 'history',
        }),
      ),
    );
    for (const gateway of gateways) stack.use(gateway);

    const history: Event[] = [];
    const end = performance.now() + writingMs;
    const until = (): boolean => performance.now() > end;
    const clients = Array.from({ length: clientsCount }, (_, at) =>
      runClient({
        name: `c${at}`,
        gateways,
        random: new Prng(seed + at + 1),
        until,
        note: (event) => history.push(event),
      }),
    );
    const happened = new Map<string, number>();
    while (!until()) {
      const names = Object.keys(faults);
      const name = names[random.below(names.length)]!;
      await faults[name]!({ masters, links, random });
      happened.set(name, (happened.get(name) ?? 0) + 1);
      await sleep(random.below(800));
    }
    await Promise.all(clients);
    for (const link of links.flat()) link.heal();

    const acknowledged = history.flatMap((event) =>
      event.kind !== 'read' && event.outcome === 'ok' ? [event] : [],
    );
    const strongReads = history.filter((event) => event.kind === 'read' && event.level !== 'one');
    const byToken = history.filter((event) => event.kind === 'read' && event.token !== null);
    process.stderr.write(
      `history: ${acknowledged.length} writes acknowledged, ${strongReads.length} reads at QUORUM and ALL, ${byToken.length} by token; ${[...happened].map(([name, times]) => `${times} times ${name}`).join(', ')}\n`,
    );
    expect(problemsOf(history)).toEqual([]);
    // A history in which little was done proves little.
    expect(Math.min(acknowledged.length, strongReads.length)).toBeGreaterThan(50);
    expect(byToken.length).toBeGreaterThan(5);

    const dots = acknowledged.map(({ key, version }) => [key, ...version!.text.split('.')] as const);
    await eventually(
      'every master has seen every acknowledged write',
      async () => {
        for (const place of masters.nodes.keys()) {
          const missing = await cluster.query(
            place,
            `select u.* from unnest($1::text[], $2::text[], $3::bigint[]) u(key, origin, counter) left join pgquorum.version_docs v on v.id = u.key
             where coalesce((coalesce(v.seen, v.clock) ->> u.origin)::bigint, 0) < u.counter`,
            [
              dots.map(([key]) => key),
              dots.map(([, origin]) => origin),
              dots.map(([, , counter]) => counter),
            ],
          );
          if (missing.length > 0)
            throw new Error(`${masters.nodes[place]!.name} lacks ${JSON.stringify(missing.slice(0, 3))}`);
        }
        return true;
      },
      { withinMs: 90_000, everyMs: 200 },
    );
  },
  writingMs + 240_000,
);
