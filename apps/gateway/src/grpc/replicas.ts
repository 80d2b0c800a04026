/** The methods on single replicas. */
import type { ReplicaOperations } from '../operations/replicas.ts';
import { showJob } from './job-message.ts';
import type { Method } from './services.ts';

export const replicaMethods = (replicas: ReplicaOperations): Record<string, Method> => ({
  SyncReplica: async ({ node = '' }: { node?: string }) => showJob(await replicas.sync(node)),
});
