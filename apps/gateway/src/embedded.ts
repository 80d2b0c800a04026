/** The gateway's verbs without its servers, for a program that has them in its own process. */
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import type { Settings } from '#core/config/settings.ts';
import { PgquorumError } from '#core/errors/error.ts';
import type { Logger } from '#core/observability/logger.process.ts';
import { Nodes } from '#core/topology/nodes.pg.ts';
import { openCluster } from '#core/topology/open-cluster.pg.ts';
import { FanOut } from '#core/writes/fan-out.pg.ts';
import { AppModule } from './app.module.ts';
import { GatewayMetrics } from './metrics.ts';
import { ClusterOperations } from './operations/cluster.ts';
import { CollectionOperations } from './operations/collections.ts';
import { EventOperations } from './operations/events.ts';
import { JobOperations } from './operations/jobs.ts';
import { ReplicaOperations } from './operations/replicas.ts';
import { VectorOperations } from './operations/vectors.ts';

export interface Operations {
  readonly vectors: VectorOperations;
  readonly collections: CollectionOperations;
  readonly cluster: ClusterOperations;
  readonly events: EventOperations;
  readonly jobs: JobOperations;
  readonly replicas: ReplicaOperations;
  close(): Promise<void>;
}

export async function openOperations(settings: Settings, logger: Logger): Promise<Operations> {
  if (settings.nodes === undefined) throw new PgquorumError('settings_invalid', 'PGQUORUM_NODES: is needed');
  const opened = await openCluster({
    nodes: settings.nodes,
    cluster: settings.cluster,
    log: settings.kafkaBrokers === undefined ? 'wal' : 'kafka',
  });
  const nodes = new Nodes(opened.nodes, { poolMax: settings.poolMax, zone: settings.zone });
  try {
    const metrics = new GatewayMetrics(settings.cluster);
    const app = await NestFactory.createApplicationContext(
      AppModule.with({ settings, nodes, metrics, logger }),
      { logger: false, abortOnError: false },
    );
    return {
      vectors: app.get(VectorOperations),
      collections: app.get(CollectionOperations),
      cluster: app.get(ClusterOperations),
      events: app.get(EventOperations),
      jobs: app.get(JobOperations),
      replicas: app.get(ReplicaOperations),
      close: async () => {
        await app.close();
        await app.get(FanOut).close();
        await nodes.close();
      },
    };
  } catch (cause) {
    await nodes.close();
    throw cause;
  }
}
