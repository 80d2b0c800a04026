/** Gateway and replicator as they are built, one file each: what is read or loaded beside that file is found. The other suites run most of them from source. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import pg from 'pg';
import { expect, test } from '@jest/globals';
import { createCollection } from '#core/collections/catalog.pg.ts';
import { projectRoot } from '#core/config/project-root.files.ts';
import { sharedKafka } from '#core/testing/broker.kafka.ts';
import { kafkaAvailable } from '#core/testing/kafka-jars.os.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { withMasters } from '#core/testing/masters.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { foundCluster } from '#core/topology/found.pg.ts';
import { AppProcess } from './convergence/processes.ts';
import { GrpcClient } from './grpc-client.ts';

const health = loadSync('health/v1/health.proto', {
  includeDirs: [join(projectRoot, 'node_modules/grpc-health-check/proto')],
  enums: String,
});
const reflection = loadSync('grpc/reflection/v1/reflection.proto', {
  includeDirs: [join(projectRoot, 'node_modules/@grpc/reflection/build/proto')],
});

const resolver = `export function resolve(ours, theirs) {
  return { row: { metadata: { tags: [ours, theirs].map(({ row }) => row.metadata.tag).sort() } } };
}`;

test('files beside the one file are found', async () => {
  await withMasters({ count: 2 }, async (masters) => {
    writeFileSync(join(masters.folder, 'both.mjs'), resolver);
    const log = (await kafkaAvailable()).kind === 'available' ? 'kafka' : 'wal';
    const cluster = `built-${process.pid}`;
    const nodes = masters.nodes.map(({ name, url, zone }) => ({ name, url, zone, weight: 1 }));
    await foundCluster({ nodes, cluster, log });
    await createCollection({
      nodes,
      name: 'docs',
      definition: { ...testDefinition, conflicts: { strategy: 'custom', resolver: 'module:both.mjs' } },
    });
    for (const [place, { url }] of nodes.entries())
      await query(url, `insert into docs values ('k', '[1,2,3]', '{"tag": ${place}}')`);
    const env = {
      PGQUORUM_NODES: JSON.stringify(nodes),
      PGQUORUM_CLUSTER: cluster,
      PGQUORUM_RESOLVERS_DIR: masters.folder,
      PGQUORUM_HTTP_PORT: '0',
      PGQUORUM_GRPC_PORT: '0',
      PGQUORUM_COMPRESSION: 'lz4',
      ...(log === 'kafka' ? { PGQUORUM_KAFKA_BROKERS: (await sharedKafka()).brokers.join(',') } : {}),
    };
    const started = (['replicator', 'gateway'] as const).map(
      (app) => new AppProcess(app, env, join(masters.folder, `${app}.log`)),
    );
    try {
      for (const app of started) app.start();
      await askGateway(started[1]!);
      for (const { url } of nodes)
        await eventually(
          'the module has decided',
          async () => (await query(url, `select from docs where metadata -> 'tags' = '[0, 1]'`)).length > 0,
          { withinMs: 60_000, everyMs: 200 },
        );
    } finally {
      for (const app of started) await app.kill('SIGTERM');
    }
  });
}, 180_000);

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

/** The page, gRPC by its .proto files, its health and its reflection. */
async function askGateway(gateway: AppProcess): Promise<void> {
  const { http, grpcPort: port } = await gateway.listening();
  const page = await fetch(`${http}/`);
  expect({ status: page.status, type: page.headers.get('content-type') }).toEqual({
    status: 200,
    type: expect.stringContaining('text/html'),
  });
  using client = new GrpcClient(port);
  await eventually('it is ready', async () => (await fetch(`${http}/readyz`)).status === 200);
  expect(await client.call('Cluster', 'ListNodes', {})).toMatchObject({
    items: [{ id: 'n1' }, { id: 'n2' }],
  });
  const bare = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  try {
    expect(await ask(bare, health, 'grpc.health.v1.Health', 'Check', {})).toMatchObject({
      status: 'SERVING',
    });
    const listed = await ask(
      bare,
      reflection,
      'grpc.reflection.v1.ServerReflection',
      'ServerReflectionInfo',
      {
        listServices: '*',
      },
    );
    expect(JSON.stringify(listed)).toContain('pgquorum.v1.Vectors');
  } finally {
    bare.close();
  }
}

/** The first answer of a method, whether it answers once or goes on. */
function ask(
  client: grpc.Client,
  definition: ReturnType<typeof loadSync>,
  service: string,
  name: string,
  request: object,
): Promise<unknown> {
  const method = (definition as unknown as Record<string, grpc.ServiceDefinition>)[service]![name]!;
  const { path, requestSerialize, responseDeserialize } = method;
  const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  return new Promise((resolve, reject) => {
    call.once('data', resolve).once('error', reject);
    call.write(request);
    call.end();
  });
}
