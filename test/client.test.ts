/** The client as others import it: its documentation's examples run against a gateway and replicators, and print what they say. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { Replicator } from '../libs/library/replicator.ts';
import { example, print } from './examples.ts';
import { startGateway, type TestGateway } from './integration/gateway-fixture.ts';

const key = 'the-key-of-the-examples';
let fresh: FreshNodes;
let replicator: Replicator;
let gateway: TestGateway;

beforeAll(async () => {
  fresh = await freshNodes({ count: 2 });
  const nodes = fresh.nodes.map(({ name, url, zone }) => ({ name, url, zone }));
  replicator = new Replicator({ cluster: fresh.cluster, nodes });
  await replicator.start();
  gateway = await startGateway({
    nodes: fresh.nodes,
    cluster: fresh.cluster,
    env: { PGQUORUM_API_KEYS: key },
  });
}, 120_000);

afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await replicator.stop();
  await fresh[Symbol.asyncDispose]();
});

test.each([
  ['vectors', 0, 5],
  ['errors, deadlines and retries', 1, 4],
  ['streams and long work', 2, 2],
])(
  'the example of %s prints what its comments say',
  async (_name, place, atLeast) => {
    const { code, expected } = await example('docs/client.md', place);
    expect(expected.length).toBeGreaterThanOrEqual(atLeast);
    const env = { GATEWAY_URL: `http://127.0.0.1:${gateway.gateway.httpPort}`, API_KEY: key };
    expect(await print(code, env)).toEqual(expected);
  },
  60_000,
);
