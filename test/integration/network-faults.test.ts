/**
 * What networks do, on every link of replication between processes and masters, while users write by SQL and by a gateway: pieces that come late, slowly, by
 * halves or not at all, and connections that are reset. Nothing acknowledged is lost and nothing is doubled, edges come back by themselves, lag and readiness
 * tell of it meanwhile, a link that fell silent is noticed in a bounded time, and connections do not pile up.
 */
import { expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { definition } from './failpoints/scene.ts';
import { startGateway, type TestGateway } from './gateway-fixture.ts';
import { collection, lagReadyMaxMs, Network, silenceNoticedMs } from './network-faults/network.ts';

interface Lag {
  readonly edges: readonly { readonly state: string; readonly ms: number | null }[];
}

/** Everything that one who sees both masters can say of the edges between them. */
async function allStand(onlooker: TestGateway): Promise<boolean> {
  const { edges } = (await onlooker.send('GET', '/v1/replication/lag')).body as Lag;
  return (
    edges.every(({ state, ms }) => state !== 'active' && (ms ?? 0) > lagReadyMaxMs) &&
    (await onlooker.send('GET', '/readyz')).status === 503
  );
}

/** The first replicator's link to its own master falls silent, the second one's to its origin, and one of the gateway's. */
async function fallSilent(network: Network, onlooker: TestGateway): Promise<void> {
  const holes = ['n1 to n1', 'n2 to n1', 'gateway to n1'];
  for (const name of holes) network.proxy(name).blackHole();
  const startedAt = performance.now();
  await eventually('lag and readiness tell of it', () => allStand(onlooker), { withinMs: silenceNoticedMs });
  for (const [place, edge] of ['edge n2 n1', 'edge n1 n2'].entries()) {
    await eventually(
      `the silence under ${edge} is noticed`,
      async () => (await network.notReady(place))?.waiting.includes(edge) === true,
      { withinMs: silenceNoticedMs, everyMs: 100 },
    );
    const tookMs = performance.now() - startedAt;
    process.stderr.write(`${edge}: silence noticed within ${Math.round(tookMs / 1000)} s\n`);
  }
  for (const name of holes) network.proxy(name).heal();
}

test('nothing is lost or doubled on links between replicators, gateway and masters, whatever happens to them', async () => {
  await using fresh = await freshNodes({ count: 2 });
  const { cluster } = fresh;
  await using network = new Network(fresh.nodes);
  const nodes = await foundCluster({ nodes: network.nodes, cluster, log: 'wal' });
  await createCollection({ nodes: network.nodes, name: collection, definition });
  for (const { name } of network.nodes)
    await network.start(name, {
      PGQUORUM_NODES: JSON.stringify(await network.through(name)),
      PGQUORUM_CLUSTER: cluster,
    });
  await using gateway = await startGateway({ nodes: await network.through('gateway'), cluster });
  await using onlooker = await startGateway({
    nodes: network.nodes,
    cluster,
    env: { PGQUORUM_LAG_READY_MAX_MS: String(lagReadyMaxMs) },
  });
  network.write(nodes, `http://127.0.0.1:${gateway.gateway.httpPort}`);
  await network.flows('healthy');
  network.count();
  await network.afflict();
  await network.flows('afflicted');
  await fallSilent(network, onlooker);
  await network.flows('silent');
  await eventually('the edges are active again', async () => {
    const { edges } = (await onlooker.send('GET', '/v1/replication/lag')).body as Lag;
    return edges.every(({ state }) => state === 'active');
  });
  await network.noneLeftOver();
  await network.converged();
  expect((await gateway.send('GET', '/healthz')).status).toBe(200);
}, 600_000);
