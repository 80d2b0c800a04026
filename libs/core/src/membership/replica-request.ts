/** Requests that add or remove a node, and the jobs that they become. Pure. */
import { z } from 'zod';
import { nodeAddress } from '../config/settings.ts';
import { invalid, parseWith, unknownField } from '../requests/fields.ts';

export const addReplicaJob = 'add-replica';
export const removeReplicaJob = 'remove-replica';

/** A JobRequest, in the words of pure code. */
interface StartedJob {
  readonly kind: string;
  readonly arguments: unknown;
  readonly unit: string;
  readonly secret?: unknown;
  readonly takesBack?: boolean;
}

export interface AddArguments {
  readonly name: string;
  readonly zone: string;
  readonly weight: number;
  /** Keys that masters draw from sequences which are not apart: refused unless it is meant. */
  readonly allow: { readonly sequences: boolean };
}

/** The url holds a password: it is no argument, which anybody who may list jobs would see. */
export interface AddSecret {
  readonly url: string;
}

export interface RemoveArguments {
  readonly node: string;
  readonly lost: boolean;
  readonly topics: 'keep' | 'delete';
}

export const addRequest = z.strictObject({
  ...nodeAddress.shape,
  allow: z.strictObject({ sequences: z.boolean().default(false) }).default({ sequences: false }),
});
export type AddRequest = z.infer<typeof addRequest>;

export const parseAdd = (body: unknown): AddRequest => parseWith(addRequest, body);

export const addJob = ({ name, url, zone, weight, allow }: AddRequest): StartedJob => ({
  kind: addReplicaJob,
  arguments: { name, zone, weight, allow } satisfies AddArguments,
  secret: { url } satisfies AddSecret,
  unit: 'keys',
});

/** How a node goes. */
export type RemoveOptions = Omit<RemoveArguments, 'node'>;

/** From query parameters. */
export function parseRemove(query: Readonly<Record<string, unknown>>): RemoveOptions {
  const { lost, topics, ...others } = query;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw unknownField(unknown);
  if (lost !== undefined && lost !== 'true' && lost !== 'false') throw invalid('lost: must be true or false');
  if (topics !== undefined && topics !== 'keep' && topics !== 'delete')
    throw invalid('topics: must be keep or delete');
  return { lost: lost === 'true', topics: topics ?? 'keep' };
}

export const removeJob = (given: RemoveArguments): StartedJob => ({
  kind: removeReplicaJob,
  arguments: given,
  unit: 'steps',
  takesBack: true,
});
