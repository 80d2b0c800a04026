/** A client of each kind, as README.md has it: curl, psql, TypeScript, and Python over gRPC, one after the other against one cluster. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { freshNodes, type FreshNodes } from '#core/testing/fresh-nodes.pg.ts';
import { pythonWith } from '#core/testing/python-packages.os.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { Replicator } from '../libs/library/replicator.ts';
import { print } from './examples.ts';
import { startGateway, type TestGateway } from './integration/gateway-fixture.ts';

const run = promisify(execFile);
const readme = readFileSync(join(projectRoot, 'README.md'), 'utf8');
const python = await pythonWith('kafka', ['kafka-python', 'grpcio-tools']);
if (python.kind === 'unavailable') process.stderr.write(`skipped: the README's Python (${python.reason})\n`);
const testWithPython = python.kind === 'available' ? test : test.skip;
const available = await run('psql', ['--version']).then(
  () => true,
  () => false,
);
if (!available) process.stderr.write(`skipped: the README's psql (there is none on this machine)\n`);
const testWithPsql = available ? test : test.skip;

let fresh: FreshNodes;
let replicator: Replicator;
let gateway: TestGateway;

beforeAll(async () => {
  fresh = await freshNodes({ count: 2 });
  const nodes = fresh.nodes.map(({ name, url, zone }) => ({ name, url, zone }));
  replicator = new Replicator({ cluster: fresh.cluster, nodes });
  await replicator.start();
  gateway = await startGateway({ nodes: fresh.nodes, cluster: fresh.cluster });
}, 120_000);
afterAll(async () => {
  await gateway[Symbol.asyncDispose]();
  await replicator.stop();
  await fresh[Symbol.asyncDispose]();
});

/** With the addresses of this cluster. */
const here = (text: string): string =>
  text
    .replaceAll('localhost:8080', `127.0.0.1:${gateway.gateway.httpPort}`)
    .replaceAll('localhost:50051', `127.0.0.1:${gateway.gateway.grpcPort}`)
    .replaceAll('"$(url 0)"', `'${fresh.nodes[0]!.url}'`);

/** The command whose line has this in it, with the lines that go on with it. */
function command(part: string): string {
  const lines = readme.split('\n');
  let at = lines.findIndex((line) => line.startsWith('$ ') && line.includes(part));
  expect([part, at]).not.toEqual([part, -1]);
  let text = lines[at]!.slice(2);
  while (text.endsWith('\\')) text = `${text.slice(0, -1)}${lines[++at]!.trim()}`;
  return here(text);
}
const shell = async (part: string) => (await run('bash', ['-c', command(part)])).stdout;
const block = (language: string): string =>
  here(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(readme)![1]!);

test('curl', async () => {
  expect(await shell('curl -X PUT localhost:8080/v1/collections/docs')).toContain('"name":"docs"');
  expect(await shell('curl localhost:8080/v1/collections/docs/vectors')).toContain('"id":"a"');
});

testWithPsql('psql on a master', async () => {
  await eventually('the row is on n1', async () =>
    (await shell('-c "select * from docs"')).includes('[1,0,0]'),
  );
  expect(await shell('insert into docs')).toContain('INSERT 0 1');
  await eventually('what psql wrote is found', async () =>
    (await shell('curl localhost:8080/v1/collections/docs/search')).includes('"id":"b"'),
  );
});

test('TypeScript', async () => {
  expect(await print(block('ts'))).toEqual(['c']);
});

testWithPython('Python over gRPC', async () => {
  if (python.kind !== 'available') return;
  await eventually('Python finds it', async () => {
    const { stdout } = await run(python.python, ['-c', block('python')], { cwd: projectRoot });
    return stdout.trim() === 'c';
  });
});
