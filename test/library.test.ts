/** The package as others import it: its documentation's examples run, and print what they say. */
import { expect, test } from '@jest/globals';
import { freshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { example, print } from './examples.ts';

const page = 'docs/library.md';

test('the example of the algorithms prints what its comments say', async () => {
  const { code, expected } = await example(page, 0);
  expect(expected.length).toBeGreaterThan(3);
  expect(await print(code)).toEqual(expected);
}, 240_000);

test('the example of an embedded replicator prints what its comments say, and the process ends by itself', async () => {
  await using fresh = await freshNodes({ count: 3 });
  const { code, expected } = await example(page, 1);
  expect(expected.length).toBeGreaterThan(4);
  const [eu, us, asia] = fresh.nodes.map(({ url }) => url);
  const env = { CLUSTER: fresh.cluster, EU_URL: eu!, US_URL: us!, ASIA_URL: asia! };
  expect(await print(code, env, 240_000)).toEqual(expected);
}, 300_000);
