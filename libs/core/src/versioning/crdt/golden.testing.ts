/** The golden cases, on which TypeScript and SQL must agree: `golden-cases.json` beside this. */
import type { CrdtFields } from './field.ts';
import type { CrdtProblemCode } from './operation.ts';
import type { CrdtState } from './state.ts';

export interface GoldenCase {
  readonly name: string;
  readonly state?: CrdtState;
  readonly operations: unknown;
  readonly request?: string;
  readonly then:
    { readonly state: CrdtState; readonly values: unknown } | { readonly problem: CrdtProblemCode };
}

export const goldenFile = 'libs/core/src/versioning/crdt/golden-cases.json';
export const goldenFields: CrdtFields = {
  likes: 'g-counter',
  stock: 'pn-counter',
  title: 'lww-register',
  tags: 'or-set',
};
/** Every case's operations have this dot and time. */
export const goldenDot = { origin: 1, counter: 17 };
export const goldenHlc = 1000n;
