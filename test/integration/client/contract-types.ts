/** The client's types against the contract's schemas. They are written twice, since the client knows nothing of the server: this does not compile when they differ. */
import type { z } from 'zod';
import type {
  attachAnswer,
  collection,
  definition,
  measuredCollection,
} from '../../../apps/gateway/src/contract/collections.ts';
import type {
  conflict,
  inspectedLetter,
  letter,
  letterPage,
  replayed,
  resolved,
  restored,
} from '../../../apps/gateway/src/contract/conflicts.ts';
import type { health, jobList, node, shard, shardOfKey } from '../../../apps/gateway/src/contract/cluster.ts';
import type { edge, lag, limits, replica } from '../../../apps/gateway/src/contract/replication.ts';
import type {
  failedItem,
  searchAnswer,
  storedVector,
  written,
} from '../../../apps/gateway/src/contract/vectors.ts';
import type { job, sibling, startedJob, version } from '../../../apps/gateway/src/contract/versions.ts';
import type * as client from '../../../libs/client/index.ts';

type Given<S extends z.ZodType> = z.input<S>;
/** The client has every field, may be told every value, and expects none that is not given. */
type Agrees<S extends z.ZodType, T> = [Given<S>] extends [T]
  ? [keyof Given<S>] extends [keyof T]
    ? [keyof T] extends [keyof Given<S>]
      ? true
      : { readonly notGiven: Exclude<keyof T, keyof Given<S>> }
    : { readonly missing: Exclude<keyof Given<S>, keyof T> }
  : { readonly given: Given<S>; readonly expected: T };

type All<T extends readonly true[]> = T;

export type TypesAgree = All<
  [
    Agrees<typeof definition, client.CollectionDefinition>,
    Agrees<typeof collection, client.Collection>,
    Agrees<typeof measuredCollection, client.MeasuredCollection>,
    Agrees<typeof attachAnswer, client.AttachedTable>,
    Agrees<typeof version, client.Version>,
    Agrees<typeof written, client.WrittenItem>,
    Agrees<typeof failedItem, client.FailedItem>,
    Agrees<typeof sibling, client.Sibling>,
    Agrees<typeof storedVector, client.StoredVector>,
    Agrees<typeof searchAnswer, client.SearchAnswer>,
    Agrees<typeof startedJob, client.StartedJob>,
    Agrees<typeof job, client.Job>,
    Agrees<typeof jobList, client.JobPage>,
    Agrees<typeof conflict, client.Conflict>,
    Agrees<typeof restored, client.RestoredConflict>,
    Agrees<typeof resolved, client.ResolvedConflict>,
    Agrees<typeof letter, client.DeadLetter>,
    Agrees<typeof inspectedLetter, client.InspectedDeadLetter>,
    Agrees<typeof letterPage, client.DeadLetterPage>,
    Agrees<typeof replayed, client.ReplayedDeadLetter>,
    Agrees<typeof edge, client.Edge>,
    Agrees<typeof lag, client.Lag>,
    Agrees<typeof replica, client.Replica>,
    Agrees<typeof limits, client.Throttle>,
    Agrees<typeof node, client.Node>,
    Agrees<typeof health, client.Health>,
    Agrees<typeof shard, client.Shard>,
    Agrees<typeof shardOfKey, client.ShardOfKey>,
  ]
>;
