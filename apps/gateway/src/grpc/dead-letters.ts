/** The methods on dead letters. */
import type { DeadLetterOperations } from '../operations/dead-letters.ts';
import type { CallContext, Method } from './services.ts';

interface ListMessage {
  readonly key?: string;
  readonly limit?: number;
  readonly [filter: string]: unknown;
}

const withoutNulls = (value: object): object =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));

/** A key may be empty and is given all the same; other empty fields are proto3's way of saying "not given". */
function queryOf({ key, ...request }: ListMessage): Record<string, unknown> {
  const filters = Object.entries(request).filter(([, value]) => value !== '' && value !== 0);
  return { ...Object.fromEntries(filters), ...(key === undefined ? {} : { key }) };
}

export const deadLetterMethods = (letters: DeadLetterOperations): Record<string, Method> => ({
  ListDeadLetters: async (request: ListMessage) => {
    const { items, nextCursor = '', unreachable = [] } = await letters.list(queryOf(request));
    return { items: items.map(withoutNulls), nextCursor, unreachable };
  },
  GetDeadLetter: async ({ id = '' }: { id?: string }) => {
    const { payload, ...letter } = await letters.get(id);
    return { ...withoutNulls(letter), payloadJson: JSON.stringify(payload) };
  },
  ReplayDeadLetter: ({ id = '' }: { id?: string }, { caller }: CallContext) =>
    letters.replay(id, caller.principal),
  DiscardDeadLetter: async ({ id = '' }: { id?: string }, { caller }: CallContext) => {
    await letters.discard(id, caller.principal);
    return {};
  },
});
