/**
 * The claim of a token that says what its bearer may do: a text of grants (rights.ts), a list of such texts, or
 * `{"capabilities": [...], "collections": [...]}`. Pure.
 */
import { isObject } from '../requests/fields.ts';
import { GrantMistake, makeGrant, parseGrants, Rights, type Grant } from './rights.ts';

/** No claim, no rights. Throws a GrantMistake for one that can not be read. */
export function rightsOfClaim(claim: unknown): Rights {
  return claim === undefined || claim === null ? Rights.none : new Rights(grantsOf(claim));
}

function grantsOf(claim: unknown): Grant[] {
  if (typeof claim === 'string') return parseGrants(claim);
  if (isTexts(claim)) return claim.flatMap(parseGrants);
  if (!isObject(claim)) throw new GrantMistake('the claim is a text, a list of texts or an object');
  const { capabilities, collections = null, ...rest } = claim;
  if (Object.keys(rest).length > 0)
    throw new GrantMistake('the claim has the fields capabilities and collections, and no others');
  if (!isTexts(capabilities) || (collections !== null && !isTexts(collections)))
    throw new GrantMistake('capabilities and collections are lists of texts');
  return [makeGrant(capabilities, collections)];
}

const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');
