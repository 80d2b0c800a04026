/** A fuzzer that nobody here wrote (schemathesis) reads /openapi.json and asks for everything in it: no server error, and no answer that the document does not have. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { run } from '#core/embedded/process.os.ts';
import { pythonWith } from '#core/testing/python-packages.os.ts';
import { freshGateway, type TestGateway } from './gateway-fixture.ts';

jest.setTimeout(180_000);
const python = await pythonWith('schemathesis', ['schemathesis==4.32.5']);
if (python.kind === 'unavailable') process.stderr.write(`skipped: the API fuzzer (${python.reason})\n`);
const describeWithFuzzer = python.kind === 'available' ? describe : describe.skip;

/**
 * Ids are of what is there, where something is: else nearly all would be answered with 404. A time that is too short for a request is its own fault, though its answer is a 504. What streams has no
 * end, nothing is ready without replicators, and ids that are none have errors of their own beside the answers of the others.
 */
const settings = `
[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
negative_data_rejection.enabled = true

[parameters]
"path.collection" = "docs"
"path.key" = "a"
"query.timeoutMs" = 10000

[[operations]]
include-tag = "streams"
enabled = false

[[operations]]
include-operation-id = "getReadiness"
enabled = false

[[operations]]
include-operation-id = "getVectors"
checks.negative_data_rejection.enabled = false
`;

describeWithFuzzer('schemathesis', () => {
  let gateway: TestGateway;
  let folder: string;

  beforeAll(async () => {
    gateway = await freshGateway({ count: 2, env: { PGQUORUM_CONSISTENCY_LEVEL: 'one' } });
    folder = mkdtempSync(join(tmpdir(), 'pgquorum-fuzzer-'));
    writeFileSync(join(folder, 'schemathesis.toml'), settings);
    await gateway.send('PUT', '/v1/collections/docs', {
      body: { dimension: 2, conflicts: { strategy: 'crdt', crdt: { views: 'g-counter' } } },
    });
    const vectors = ['a', 'b'].map((id) => ({ id, embedding: [1, 2] }));
    await gateway.send('POST', '/v1/collections/docs/vectors', { body: { vectors } });
  }, 120_000);
  afterAll(async () => {
    await gateway[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  test('finds nothing', async () => {
    if (python.kind !== 'available') return;
    const url = `http://127.0.0.1:${gateway.gateway.httpPort}/openapi.json`;
    const options = ['--max-examples=6', '--generation-deterministic', '--no-shrink', '--workers=1'];
    const { code, stdout, stderr } = await run(
      python.python,
      [
        '-m',
        'schemathesis.cli',
        `--config-file=${join(folder, 'schemathesis.toml')}`,
        'run',
        url,
        ...options,
        '--phases=examples,coverage,fuzzing',
        '--no-color',
        '--warnings=off',
        '--request-timeout=30',
      ],
      { timeoutMs: 150_000, cwd: folder },
    );
    const tail = `${stdout}${stderr}`;
    expect([code, code === 0 ? '' : tail.slice(-20_000)]).toEqual([0, '']);
    const tested = Number(/Tested: +(\d+)/.exec(stdout)?.[1] ?? /Selected: +(\d+)/.exec(stdout)?.[1] ?? 0);
    expect([tested > 35, tail.slice(-1500)]).toEqual([true, expect.any(String)]);
    expect(gateway.log.filter((line) => (JSON.parse(line) as { level: number }).level >= 50)).toEqual([]);
  });
});
