/** Conflict records and dead letters. */
import { z } from 'zod';
import { kinds, states } from '#core/conflicts/query.ts';
import type { ResolveResult } from '#core/conflicts/resolve-call.pg.ts';
import type { RestoreResult } from '#core/conflicts/restorer.pg.ts';
import type { ConflictCount } from '#core/conflicts/store.pg.ts';
import type { ConflictView } from '#core/conflicts/view.ts';
import type { LetterView } from '#core/dead-letters/letter.ts';
import type { ReplayResult } from '#core/dead-letters/replay.pg.ts';
import type { InspectedLetter, LetterPage } from '#core/dead-letters/store.pg.ts';
import {
  answer,
  collectionParam,
  emptyBody,
  ifMatch,
  nothing,
  page,
  pageQuery,
  shows,
  time,
  uuid,
  type RouteContract,
} from './route.ts';
import { embeddingRequest, metadataRequest, version } from './versions.ts';

export const conflict = shows<ConflictView>()(
  z
    .object({
      id: z.string(),
      collection: z.string(),
      key: z.string(),
      shard: z.int(),
      kind: z.string(),
      state: z.string(),
      loser: z.object({ version, deleted: z.boolean(), row: z.unknown() }),
      winner: z.object({
        text: z.string(),
        origin: z.string(),
        counter: z.string(),
        hlc: z.string(),
        clock: z.record(z.string(), z.string()).nullable(),
      }),
      current: z.object({ version, deleted: z.boolean() }).nullable(),
      noise: z.boolean().nullable(),
      decidedBy: z.string(),
      reason: z.string(),
      attempt: z
        .object({
          at: z.string(),
          resolver: z.string(),
          version: z.string().nullable(),
          error: z.string(),
          tries: z.int(),
          node: z.string(),
        })
        .nullable(),
      foundAt: time,
      stateAt: time,
      stateHlc: z.string(),
      stateOrigin: z.string(),
    })
    .meta({ id: 'Conflict' }),
);

export const conflictCount = shows<ConflictCount>()(
  z.object({ collection: z.string(), state: z.string(), kind: z.string(), count: z.int() }),
);

const settled = {
  id: z.string(),
  collection: z.string(),
  key: z.string(),
  deleted: z.boolean(),
  version,
  coordinator: z.string(),
  acks: z.array(z.string()),
};
export const restored = shows<RestoreResult>()(
  z.object({ ...settled, replaced: z.string().nullable() }).meta({ id: 'RestoredConflict' }),
);
export const resolved = shows<ResolveResult>()(
  z.object({ ...settled, resolved: z.array(z.string()) }).meta({ id: 'ResolvedConflict' }),
);

const letterFields = {
  id: z.string(),
  node: z.string(),
  origin: z.string(),
  log: z.string(),
  lsn: z.string().nullable(),
  collection: z.string(),
  key: z.string(),
  change: z.string().nullable(),
  code: z.string().nullable(),
  sqlstate: z.string().nullable(),
  message: z.string(),
  commitTime: time.nullable(),
  at: time,
  tries: z.int(),
  triedAt: time.nullable(),
  bytes: z.int(),
};
export const letter = shows<LetterView>()(z.object(letterFields).meta({ id: 'DeadLetter' }));
export const inspectedLetter = shows<InspectedLetter>()(
  z
    .object({ ...letterFields, payload: z.record(z.string(), z.unknown()) })
    .meta({ id: 'InspectedDeadLetter' }),
);
export const letterPage = shows<LetterPage>()(
  page(letter)
    .extend({ unreachable: z.array(z.string()).optional() })
    .meta({ id: 'DeadLetters' }),
);
export const replayed = shows<ReplayResult>()(
  z
    .object({
      id: z.string(),
      node: z.string(),
      collection: z.string(),
      key: z.string(),
      outcome: z.enum(['written', 'seen', 'conflict']),
    })
    .meta({ id: 'ReplayedDeadLetter' }),
);

const filter = {
  collection: collectionParam.optional(),
  key: z.string().optional(),
  state: z.enum(states).optional(),
  kind: z.enum(kinds).optional(),
  origin: z.string().optional().describe('The node that took the losing write.'),
  since: time.optional(),
  until: time.optional(),
  noise: z.enum(['true', 'false']).optional(),
};

const byId = z.object({ id: uuid });
const conflicts = { tag: 'conflicts' } as const;

export const resolveRequest = z.strictObject({
  metadata: metadataRequest.optional(),
  embedding: embeddingRequest.nullable().optional(),
  deleted: z.boolean().optional(),
});

const conflictRoutesOnly: readonly RouteContract[] = [
  {
    ...conflicts,
    method: 'get',
    path: '/v1/conflicts',
    id: 'listConflicts',
    summary: 'Conflict records, the newest first.',
    query: z.strictObject({ ...filter, ...pageQuery }),
    answers: answer('A page.', page(conflict).meta({ id: 'Conflicts' })),
  },
  {
    ...conflicts,
    method: 'get',
    path: '/v1/conflicts/count',
    id: 'countConflicts',
    summary: 'How many conflict records there are.',
    query: z.strictObject(filter),
    answers: answer(
      'By collection, state and kind.',
      z.object({ items: z.array(conflictCount), total: z.int() }).meta({ id: 'ConflictCounts' }),
    ),
  },
  {
    ...conflicts,
    method: 'get',
    path: '/v1/conflicts/{id}',
    id: 'getConflict',
    summary: 'A conflict record.',
    params: byId,
    answers: answer('The record.', conflict),
  },
  {
    ...conflicts,
    method: 'post',
    path: '/v1/conflicts/{id}/restore',
    id: 'restoreConflict',
    summary: 'Writes the loser again, whatever the row is now; what it replaces becomes a record itself.',
    params: byId,
    headers: ifMatch,
    body: emptyBody,
    bodyOptional: true,
    answers: answer('What was written.', restored),
  },
  {
    ...conflicts,
    method: 'post',
    path: '/v1/conflicts/{id}/resolve',
    id: 'resolveConflict',
    summary: 'Writes what settles the open records of a key.',
    params: byId,
    headers: ifMatch,
    body: resolveRequest,
    bodyOptional: true,
    answers: answer('What was written.', resolved),
  },
];

const byLetter = z.object({ id: z.string().regex(/^[a-z][a-z0-9_-]{0,31}\.[1-9]\d{0,18}$/) });
const letters = { tag: 'dead letters' } as const;

const letterRoutes: readonly RouteContract[] = [
  {
    ...letters,
    method: 'get',
    path: '/v1/dead-letters',
    id: 'listDeadLetters',
    summary: 'Changes that could not be applied, the newest first.',
    query: z.strictObject({
      node: z.string().optional().describe('The node that keeps it.'),
      origin: z.string().optional(),
      collection: collectionParam.optional(),
      key: z.string().optional(),
      sqlstate: z
        .string()
        .regex(/^[0-9A-Z]{2,5}$/)
        .optional(),
      since: time.optional(),
      until: time.optional(),
      ...pageQuery,
    }),
    answers: answer('A page.', letterPage),
  },
  {
    ...letters,
    method: 'get',
    path: '/v1/dead-letters/{id}',
    id: 'getDeadLetter',
    summary: 'A dead letter with the change that it carries.',
    params: byLetter,
    answers: answer('The letter.', inspectedLetter),
  },
  {
    ...letters,
    method: 'post',
    path: '/v1/dead-letters/{id}/replay',
    id: 'replayDeadLetter',
    summary: 'Applies the change once more.',
    params: byLetter,
    body: emptyBody,
    bodyOptional: true,
    answers: answer('What came of it.', replayed),
  },
  {
    ...letters,
    method: 'delete',
    path: '/v1/dead-letters/{id}',
    id: 'discardDeadLetter',
    summary: 'Gives the change up.',
    params: byLetter,
    answers: nothing,
  },
];

export const conflictRoutes: readonly RouteContract[] = [...conflictRoutesOnly, ...letterRoutes];
