/** The methods on single replicas. */
import type { ReplicaOperations } from '../operations/replicas.ts';
import { showJob } from './job-message.ts';
import type { Method } from './services.ts';

interface AddMessage {
  readonly name?: string;
  readonly url?: string;
  readonly zone?: string;
  readonly weight?: number;
  readonly allowSequences?: boolean;
}

const addBody = ({ name, url, zone, weight, allowSequences }: AddMessage): object => ({
  ...(name === undefined ? {} : { name }),
  ...(url === undefined ? {} : { url }),
  ...(zone === undefined || zone === '' ? {} : { zone }),
  ...(weight === undefined || weight === 0 ? {} : { weight }),
  ...(allowSequences === true ? { allow: { sequences: true } } : {}),
});

interface RemoveMessage {
  readonly node?: string;
  readonly lost?: boolean;
  readonly deleteTopics?: boolean;
}

export const replicaMethods = (replicas: ReplicaOperations): Record<string, Method> => ({
  AddReplica: async (message: AddMessage) => showJob(await replicas.add(addBody(message))),
  RemoveReplica: async ({ node = '', lost = false, deleteTopics = false }: RemoveMessage) =>
    showJob(await replicas.remove(node, { lost, topics: deleteTopics ? 'delete' : 'keep' })),
  SyncReplica: async ({ node = '' }: { node?: string }) => showJob(await replicas.sync(node)),
});
