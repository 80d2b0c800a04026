/** A gateway: opens the cluster, listens, and ends in order. Used by the process's entry and by tests. */
import 'reflect-metadata';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { StatusBoard } from '#core/topology/status.pg.ts';
import { FanOut } from '#core/writes/fan-out.pg.ts';
import { AppModule } from './app.module.ts';
import { readCertificates, type Certificates } from './access/transport.files.ts';
import type { GrpcServer as GrpcServerClass } from './grpc/server.ts';
import type { GrpcStrategy as GrpcStrategyClass } from './grpc/strategy.ts';
import { makeServices, type Services } from './grpc/services.ts';
import type { Access } from './access/access.ts';
import { AuditLog } from './access/audit.ts';
import { checkBinding, Guard } from './access/guard.ts';
import { Limits } from './access/limits.ts';
import { TopologyGate } from './access/topology-gate.ts';
import { ProblemFilter } from './http/problem.filter.ts';
import { createHttpAdapter, type ServedRoute } from './http/server.ts';
import { GatewayMetrics } from './metrics.ts';
import { ChangeOperations } from './operations/changes.ts';
import { ClusterOperations } from './operations/cluster.ts';
import { CollectionOperations } from './operations/collections.ts';
import { ConflictOperations } from './operations/conflicts.ts';
import { DeadLetterOperations } from './operations/dead-letters.ts';
import { EventOperations } from './operations/events.ts';
import { JobOperations } from './operations/jobs.ts';
import { ThrottleOperations } from './operations/throttle.ts';
import { VectorOperations } from './operations/vectors.ts';
import { ReplicaOperations } from './operations/replicas.ts';
import { ShardOperations } from './operations/shards.ts';
import { VerifyOperations } from './operations/verify.ts';

export interface Gateway {
  readonly host: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly routes: readonly ServedRoute[];
  /** Finishes what runs, then lets go of the nodes. */
  close(): Promise<void>;
}

export async function createGateway(settings: Settings, logger: Logger): Promise<Gateway> {
  checkBinding(settings);
  const certificates = readCertificates(settings);
  if (settings.nodes === undefined) throw new PgquorumError('settings_invalid', 'PGQUORUM_NODES: is needed');
  const opening = openCluster({
    nodes: settings.nodes,
    cluster: settings.cluster,
    log: settings.kafkaBrokers === undefined ? 'wal' : 'kafka',
  });
  // A tenth of a second of loading, while the databases answer.
  const [opened, { GrpcServer }, { GrpcStrategy }] = await Promise.all([
    opening,
    import('./grpc/server.ts'),
    import('./grpc/strategy.ts'),
  ]);
  if (opened.unreachable.length > 0) logger.warn({ nodes: opened.unreachable }, 'started without some nodes');
  const nodes = new Nodes(opened.nodes, { poolMax: settings.poolMax, zone: settings.zone });
  try {
    return await listen({ settings, logger, nodes, certificates, GrpcServer, GrpcStrategy });
  } catch (cause) {
    await nodes.close();
    throw cause;
  }
}

const servicesOf = (app: NestFastifyApplication): Services =>
  makeServices({
    vectors: app.get(VectorOperations),
    collections: app.get(CollectionOperations),
    conflicts: app.get(ConflictOperations),
    cluster: app.get(ClusterOperations),
    events: app.get(EventOperations),
    jobs: app.get(JobOperations),
    letters: app.get(DeadLetterOperations),
    throttle: app.get(ThrottleOperations),
    changes: app.get(ChangeOperations),
    verify: app.get(VerifyOperations),
    replicas: app.get(ReplicaOperations),
    shards: app.get(ShardOperations),
  });

interface ListenOptions {
  readonly settings: Settings;
  readonly logger: Logger;
  readonly nodes: Nodes;
  readonly certificates: Certificates | null;
  readonly GrpcServer: typeof GrpcServerClass;
  readonly GrpcStrategy: typeof GrpcStrategyClass;
}

async function listen({
  settings,
  logger,
  nodes,
  certificates,
  GrpcServer,
  GrpcStrategy,
}: ListenOptions): Promise<Gateway> {
  const access: Access = {
    guard: new Guard(settings, {
      collectionOfConflict: async (id) => (await app.get(ConflictOperations).get(id)).collection,
    }),
    gate: new TopologyGate(() => nodes.all.map(({ name }) => name)),
    audit: new AuditLog(logger),
    limits: new Limits(settings),
    certificates,
  };
  const metrics = new GatewayMetrics(settings.cluster);
  const { adapter, sendError, routes } = createHttpAdapter({ settings, access, metrics, logger });
  const app = await NestFactory.create<NestFastifyApplication>(
    AppModule.with({ settings, nodes, metrics, logger }),
    adapter,
    { bodyParser: false, logger: false, abortOnError: false },
  );
  app.useGlobalFilters(new ProblemFilter(sendError));
  metrics.watch(nodes, app.get(StatusBoard));
  metrics.watchRoom(access.limits.room);
  const grpc = new GrpcStrategy(
    new GrpcServer({ settings, access, metrics, logger, services: servicesOf(app) }),
  );
  app.connectMicroservice({ strategy: grpc });
  try {
    await app.listen(settings.httpPort, settings.host);
    await app.startAllMicroservices();
    const { port: httpPort } = app.getHttpServer().address() as AddressInfo;
    return {
      host: settings.host,
      httpPort,
      grpcPort: grpc.port,
      routes,
      close: () => closeAll(app, nodes),
    };
  } catch (cause) {
    await app.close();
    throw cause;
  }
}

async function closeAll(app: NestFastifyApplication, nodes: Nodes): Promise<void> {
  await app.close();
  await app.get(FanOut).close();
  await nodes.close();
}
