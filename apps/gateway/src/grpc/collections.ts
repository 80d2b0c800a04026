/** The methods about collections. */
import type {
  CollectionOperations,
  CollectionView,
  MeasuredCollectionView,
} from '../operations/collections.ts';
import { showJob } from './job-message.ts';
import {
  given,
  readAttach,
  readDefinition,
  readRules,
  showDefinition,
  type AttachMessage,
  type ConflictRulesMessage,
  type DefinitionMessage,
} from './messages.ts';
import type { CallContext } from './services.ts';

const showCollection = (collection: CollectionView | MeasuredCollectionView): object => ({
  ...collection,
  definition: showDefinition(collection.definition),
});

export const collectionMethods = (collections: CollectionOperations) => ({
  Put: async (request: { name?: string; definition?: DefinitionMessage | null }) => {
    const { created, collection } = await collections.put(
      request.name ?? '',
      readDefinition(request.definition),
    );
    return { created, collection: showCollection(collection) };
  },
  Get: async (request: { name?: string }) => showCollection(await collections.get(request.name ?? '')),
  Change: async (request: { name?: string; conflicts?: ConflictRulesMessage | null }) =>
    showCollection(
      await collections.change(request.name ?? '', given({ conflicts: readRules(request.conflicts) })),
    ),
  List: async (_request: object, { identity }: CallContext) => {
    const known = (await collections.list()).filter(({ name }) => identity.rights.knows(name));
    return { items: known.map(showCollection) };
  },
  Delete: async (request: { name?: string }) => {
    await collections.drop(request.name ?? '');
    return {};
  },
  Ddl: async ({ name = '', statement = '' }: { name?: string; statement?: string }) =>
    showJob(await collections.ddl(name, { statement })),
  Attach: async ({ name = '', ...request }: AttachMessage) => {
    const { job, created, warnings } = await collections.attach(name, readAttach(request));
    return { job: showJob(job), created, warnings };
  },
  Detach: async (request: { name?: string }) => {
    await collections.detach(request.name ?? '');
    return {};
  },
});
