/** The same on links between replicators and the broker, in the long form: see network-faults.test.ts. */
import { describe, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { freePorts } from '#core/embedded/ports.os.ts';
import { startKafka } from '#core/testing/broker.kafka.ts';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { definition } from './failpoints/scene.ts';
import { FaultProxy } from './fault-proxy.ts';
import { collection, Network, silenceNoticedMs } from './network-faults/network.ts';

const availability = await kafkaAvailable();
if (availability.kind === 'unavailable')
  process.stderr.write(`skipped: links to Kafka (${availability.reason})\n`);
const long = process.env['PGQUORUM_TEST_LONG'] === '1';
const describeWithKafka = long && availability.kind === 'available' ? describe : describe.skip;

describeWithKafka('between replicators and the broker', () => {
  test('nothing is lost or doubled, whatever happens to the links', async () => {
    await using fresh = await freshNodes({ count: 2 });
    const { cluster } = fresh;
    await using network = new Network(fresh.nodes);
    const [port] = await freePorts(1);
    const proxy = await FaultProxy.before({ host: '127.0.0.1', port: port! });
    network.links.push({ name: 'broker', proxy });
    await using _broker = await startKafka({ through: { port: port!, advertisedPort: proxy.port } });
    const nodes = await foundCluster({ nodes: network.nodes, cluster, log: 'kafka' });
    await createCollection({ nodes: network.nodes, name: collection, definition });
    for (const { name } of network.nodes)
      await network.start(name, {
        PGQUORUM_NODES: JSON.stringify(network.nodes),
        PGQUORUM_CLUSTER: cluster,
        PGQUORUM_KAFKA_BROKERS: `127.0.0.1:${proxy.port}`,
      });
    network.write(nodes, null);
    await network.flows('healthy');
    network.count();
    await network.afflict();
    await network.flows('afflicted');
    proxy.blackHole();
    const startedAt = performance.now();
    for (const place of network.replicators.keys())
      await eventually(
        'readiness tells of edges that stand',
        async () => ((await network.notReady(place))?.stuck.length ?? 0) > 0,
        { withinMs: silenceNoticedMs, everyMs: 100 },
      );
    const before = proxy.opened;
    // What fell silent is given up, and connections are made anew: into the same hole.
    await eventually('the silence is noticed', () => proxy.opened > before, { withinMs: silenceNoticedMs });
    process.stderr.write(
      `broker: silence noticed within ${Math.round((performance.now() - startedAt) / 1000)} s\n`,
    );
    proxy.heal();
    await network.flows('silent');
    await network.noneLeftOver();
    await network.converged();
  }, 600_000);
});
