import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { keysMistake, parseApiKey } from './api-key.ts';
import { rightsOfClaim } from './claims.ts';
import { allCapabilities, GrantMistake, parseGrants, Rights } from './rights.ts';

const rights = (text: string): Rights => new Rights(parseGrants(text));
const hex = (key: string): string => createHash('sha256').update(key).digest('hex');

describe('grants', () => {
  test('hold for the collections that they name, and for no others', () => {
    const some = rights('vectors:read+vectors:write@docs+notes_*;vectors:read@other;cluster:read');
    expect(some.has('vectors:write', 'docs')).toBe(true);
    expect(some.has('vectors:write', 'notes_2024')).toBe(true);
    expect(some.has('vectors:read', 'other')).toBe(true);
    expect(some.has('vectors:write', 'other')).toBe(false);
    expect(some.has('vectors:read', 'docs2')).toBe(false);
    expect(some.has('vectors:read', 'notes')).toBe(false);
    expect(some.has('vectors:read', '')).toBe(false);
    expect(some.has('collections:admin', 'docs')).toBe(false);
    expect(some.has('cluster:read')).toBe(true);
    expect(some.has('topology:read')).toBe(false);
    expect([some.knows('docs'), some.knows('else')]).toEqual([true, false]);
  });

  test('for some collections are none for all of them', () => {
    expect(rights('vectors:read@docs').has('vectors:read')).toBe(false);
    expect(rights('vectors:read').has('vectors:read')).toBe(true);
    expect(rights('vectors:read').has('vectors:read', 'docs')).toBe(true);
  });

  test('with a star are all capabilities, with collections only those of collections', () => {
    expect(allCapabilities.every((one) => rights('*').has(one, 'docs'))).toBe(true);
    expect(rights('*@docs').has('collections:admin', 'docs')).toBe(true);
    expect(rights('*@docs').has('cluster:read', 'docs')).toBe(false);
    expect(rights('*@*').has('vectors:read', 'docs')).toBe(true);
    expect(allCapabilities.some((one) => Rights.none.has(one, 'docs'))).toBe(false);
  });

  test.each([
    '',
    'read',
    'vectors:read;',
    'vectors:read@',
    'vectors:read@Docs',
    'vectors:read@a*b',
    'vectors:read@docs@notes',
    'vectors:read+@docs',
    'cluster:read@docs',
    'vectors:read@docs,notes',
  ])('are refused when they are like %j', (text) => {
    expect(() => parseGrants(text)).toThrow(GrantMistake);
  });
});

describe('an API key', () => {
  test('as it is may do everything, and is known by the beginning of its digest', () => {
    const { principal, digest, rights: all } = parseApiKey('the-key');
    expect(principal).toBe(`key:sha256:${hex('the-key').slice(0, 16)}`);
    expect(digest.toString('hex')).toBe(hex('the-key'));
    expect(all.has('cluster:admin')).toBe(true);
  });

  test('as a digest has a name, and the grants that follow or all', () => {
    const some = parseApiKey(`reader=sha256:${hex('r')}:vectors:read@docs`);
    expect(some.principal).toBe('key:reader');
    expect(some.rights.has('vectors:read', 'docs')).toBe(true);
    expect(some.rights.has('vectors:write', 'docs')).toBe(false);
    expect(parseApiKey(`ops=sha256:${hex('o')}`).rights.has('cluster:admin')).toBe(true);
  });

  test('that looks like a digest and is none is a mistake, which does not repeat it', () => {
    for (const entry of [
      'secret=sha256:secret',
      `Secret=sha256:${hex('k')}`,
      `secret=sha256:${hex('k').toUpperCase()}`,
      `secret=sha256:${hex('k')}:secret`,
      `secret=sha256:${hex('k')}:`,
    ]) {
      const mistake = keysMistake(['a', entry]);
      expect(mistake).toMatch(/^entry 2: /);
      expect(mistake).not.toMatch(/secret/i);
    }
  });

  test('is listed once', () => {
    expect(keysMistake(['a', 'b', `c=sha256:${hex('c')}`])).toBeNull();
    expect(keysMistake(['a', 'a'])).toMatch(/^entry 2/);
    expect(keysMistake(['a', `a=sha256:${hex('a')}`])).toMatch(/^entry 2/);
    expect(keysMistake([`a=sha256:${hex('a')}`, `a=sha256:${hex('b')}`])).toMatch(/^entry 2/);
  });
});

describe('a claim', () => {
  test.each([
    ['vectors:read@docs;cluster:read'],
    [['vectors:read@docs', 'cluster:read']],
    [[' vectors:read@docs', 'cluster:read;topology:read']],
  ])('is a text or a list of texts: %j', (claim) => {
    const found = rightsOfClaim(claim);
    expect(found.has('vectors:read', 'docs')).toBe(true);
    expect(found.has('vectors:read', 'notes')).toBe(false);
    expect(found.has('cluster:read')).toBe(true);
  });

  test('is an object of capabilities and collections', () => {
    const found = rightsOfClaim({ capabilities: ['vectors:write'], collections: ['docs'] });
    expect([found.has('vectors:write', 'docs'), found.has('vectors:write')]).toEqual([true, false]);
    expect(rightsOfClaim({ capabilities: ['cluster:admin'] }).has('cluster:admin')).toBe(true);
  });

  test('that is missing gives nothing, and one that can not be read is refused', () => {
    expect(rightsOfClaim(undefined).has('vectors:read', 'docs')).toBe(false);
    for (const claim of [
      7,
      [7],
      { capabilities: 'vectors:read' },
      { capabilities: ['vectors:read'], collection: ['docs'] },
      { capabilities: [] },
      { capabilities: ['vectors:read'], collections: [] },
      'vectors',
    ])
      expect(() => rightsOfClaim(claim)).toThrow(GrantMistake);
  });
});
