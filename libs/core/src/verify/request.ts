/** What a verification is asked to do: arguments of the job, body of the request. Pure. */
import { checkCollectionName, invalid, isObject, unknownField } from '../requests/fields.ts';

export type Repair =
  | { readonly kind: 'none' }
  | { readonly kind: 'merge' }
  /** Merges, and where rows were changed behind the triggers' back this node's row is written anew. */
  | { readonly kind: 'prefer'; readonly node: string };

export interface VerifyRequest {
  /** Null = all. */
  readonly collection: string | null;
  /** Always with `prefer`. */
  readonly deep: boolean;
  readonly repair: Repair;
}

const preferred = /^prefer:([a-z][a-z0-9_-]{0,31})$/;

/** `nodes` are the names of the cluster's nodes. */
export function parseVerifyRequest(body: unknown, nodes: readonly string[]): VerifyRequest {
  const given = body === undefined ? {} : body;
  if (!isObject(given)) throw invalid('the body: must be an object');
  const { collection, deep, repair, ...others } = given;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw unknownField(unknown);
  if (collection !== undefined && typeof collection !== 'string') throw invalid('collection: must be a text');
  if (collection !== undefined) checkCollectionName(collection);
  if (deep !== undefined && typeof deep !== 'boolean') throw invalid('deep: must be true or false');
  const parsed = parseRepair(repair, nodes);
  if (parsed.kind === 'prefer' && deep === false)
    throw invalid(
      'deep: prefer:<node> needs it, since nothing else finds rows that were changed behind the triggers',
    );
  return { collection: collection ?? null, deep: deep ?? parsed.kind === 'prefer', repair: parsed };
}

function parseRepair(given: unknown, nodes: readonly string[]): Repair {
  if (given === undefined || given === 'none') return { kind: 'none' };
  if (given === 'merge') return { kind: 'merge' };
  const node = typeof given === 'string' ? preferred.exec(given)?.[1] : undefined;
  if (node === undefined) throw invalid('repair: must be none, merge or prefer:<node>');
  if (!nodes.includes(node)) throw invalid(`repair: there is no node ${node}`);
  return { kind: 'prefer', node };
}

/** What `parseVerifyRequest` reads. */
export const verifyArguments = ({ collection, deep, repair }: VerifyRequest) => ({
  ...(collection === null ? {} : { collection }),
  deep,
  repair: repair.kind === 'prefer' ? `prefer:${repair.node}` : repair.kind,
});
