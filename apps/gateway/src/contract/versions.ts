/** Parts that the answers of many routes have. */
import { z } from 'zod';
import { errorCodes, type ErrorCode } from '#core/errors/codes.ts';
import type { Sibling } from '#core/conflicts/siblings.ts';
import type { JobView } from '#core/jobs/job.ts';
import type { acceptedJob } from '#core/jobs/job.ts';
import { jobStates } from '#core/jobs/job.ts';
import type { VersionView } from '#core/versioning/version-view.ts';
import type { EmbeddingView } from '#core/writes/embedding.ts';
import type { Problem } from '../http/problem.ts';
import { shows, time, type AnswerContract } from './route.ts';

const codes = Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]];

const problemFields = {
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.enum(codes),
  detail: z.string(),
  hint: z.string(),
};

/** Of an item; of a request it also has the request's id. */
export const itemProblem = shows<Problem>()(z.object(problemFields).meta({ id: 'ItemProblem' }));
export const problem = z
  .object({ ...problemFields, requestId: z.string() })
  .meta({ id: 'Problem', description: 'Some codes carry more fields: a receipt, the results of items.' });

export const version = shows<VersionView>()(
  z
    .object({
      text: z.string(),
      origin: z.string(),
      counter: z.string(),
      hlc: z.string().nullable(),
      clock: z.record(z.string(), z.string()).nullable(),
    })
    .meta({ id: 'Version' }),
);

export const embedding = shows<EmbeddingView>()(
  z
    .union([
      z.array(z.number()),
      z.object({ dimension: z.int(), indices: z.array(z.int()), values: z.array(z.number()) }),
      z.string(),
    ])
    .meta({ id: 'Embedding', description: 'Numbers, a sparse vector, or a text of 0 and 1.' }),
);

export const sibling = shows<Sibling>()(
  z
    .object({
      conflictId: z.string(),
      embedding: embedding.nullable(),
      metadata: z.unknown(),
      version,
      deleted: z.literal(true).optional(),
    })
    .meta({ id: 'Sibling' }),
);

const progress = z.object({ done: z.number(), total: z.number().nullable(), unit: z.string() });
const state = z.enum(jobStates);

export const job = shows<JobView>()(
  z
    .object({
      id: z.string(),
      kind: z.string(),
      state,
      progress,
      home: z.string(),
      arguments: z.unknown(),
      cancelRequested: z.literal(true).optional(),
      result: z.unknown().optional(),
      error: z.object({ code: z.string(), detail: z.string() }).optional(),
      createdAt: time,
      updatedAt: time,
    })
    .meta({ id: 'Job' }),
);

export const startedJob = shows<ReturnType<typeof acceptedJob>>()(
  z.object({ job: z.object({ id: z.string(), state, progress }) }).meta({ id: 'StartedJob' }),
);

export const accepted: Readonly<Record<202, AnswerContract>> = {
  202: { description: 'A job has begun; `location` says where it can be asked for.', schema: startedJob },
};

/** As requests have one; which form fits, the collection's type says. */
export const embeddingRequest = z
  .union([
    z.array(z.number()),
    z.strictObject({ base64: z.string().describe('Little-endian single-precision numbers.') }),
    z.strictObject({
      indices: z.array(z.int().min(0)),
      values: z.array(z.number()),
      dimension: z.int().min(1).optional(),
    }),
    z.string().regex(/^[01]*$/),
  ])
  .meta({ id: 'EmbeddingRequest' });

export const metadataRequest = z.record(z.string(), z.unknown());
