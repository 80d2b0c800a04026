import { describe, expect, test } from '@jest/globals';
import { alterSql, createIndexSql, parseDdl } from './statement.ts';

const code = (text: string): string | null => {
  try {
    parseDdl(text);
    return null;
  } catch (cause) {
    return (cause as { code: string }).code;
  }
};

describe('alter table', () => {
  test.each([
    ['alter table docs add lang text', true],
    [
      'ALTER TABLE IF EXISTS ONLY "public"."docs" ADD COLUMN IF NOT EXISTS lang text DEFAULT \'a;b\' NOT NULL;',
      true,
    ],
    ['alter table docs add a text, add b int default 1 -- two; of them', true],
    ['alter table docs drop lang', false],
    ['alter table docs /* a /* nested */ comment */ alter n type bigint using (n::bigint)', false],
    ['alter table docs alter column n set data type numeric(10, 2)', false],
    ['alter table docs alter n set default 3, alter n drop not null', true],
    ['alter table docs alter n set not null', false],
    ['alter table docs rename lang to language', false],
    ['alter table docs rename column "a b" to c', false],
    ['alter table docs add constraint small check (n < 10)', false],
    ['alter table docs add check (n < 10) not valid, validate constraint small', false],
    ['alter table docs set (fillfactor = 70)', true],
    ['alter table docs add a text default $q$it\'s; "all" one$q$', true],
  ])('%s', (text, additive) => {
    expect(parseDdl(text)).toMatchObject({ kind: 'alter', table: { name: 'docs' }, additive });
  });

  test('is put together anew with the full name', () => {
    const statement = parseDdl(`alter table if exists docs add "A" text default ';' ;`);
    if (statement.kind !== 'alter') throw new Error('not an alter');
    expect(alterSql(statement, '"s"."t"')).toBe(`alter table "s"."t" add "A" text default ';'`);
  });
});

describe('indexes', () => {
  test('are made concurrently, whatever was asked', () => {
    const statement = parseDdl(
      'create unique index if not exists "By Lang" on docs using btree (lower(lang)) where lang is not null',
    );
    if (statement.kind !== 'create-index') throw new Error('not an index');
    expect(statement).toMatchObject({ ifNotExists: true, unique: true, index: 'By Lang' });
    expect(createIndexSql(statement, { table: '"public"."docs"', concurrently: true })).toBe(
      'create unique index concurrently "By Lang" on "public"."docs" using btree (lower(lang)) where lang is not null',
    );
  });

  test('are dropped one at a time', () => {
    expect(parseDdl('drop index concurrently if exists public.by_lang restrict;')).toEqual({
      kind: 'drop-index',
      index: { schema: 'public', name: 'by_lang' },
      ifExists: true,
    });
  });
});

test.each([
  ['', 'nothing'],
  ['select 1', 'another statement'],
  ['drop table docs', 'another statement'],
  ['alter table docs', 'no action'],
  ['alter table docs add a text; drop table docs', 'two statements'],
  ['alter table docs add a text default $x$ $x$; drop table docs', 'two statements after a dollar quote'],
  ["alter table docs add a text default e'\\''; drop table docs --'", 'two statements after an escape'],
  ['alter table docs add a text /* ; */ ; ; select 1', 'two statements after a comment'],
  ["alter table docs add a text default 'x", 'a text without end'],
  ['alter table docs add a text /* x', 'a comment without end'],
  ['alter table docs add a text) ', 'a parenthesis too many'],
  ['alter table docs add check (n < 10', 'a parenthesis too few'],
  ["alter table docs add a text default u&'\\0061'", 'escapes of the form U&'],
  ['alter table docs rename to other', 'another name of the table'],
  ['alter table docs rename a to b, add c text', 'rename and more'],
  ['alter table docs set schema other', 'another schema'],
  ['alter table docs owner to other', 'another owner'],
  ['alter table docs disable trigger all', 'triggers'],
  ['alter table docs enable row level security', 'row-level security'],
  ['alter table docs replica identity nothing', 'replica identity'],
  ['alter table docs set unlogged', 'unlogged'],
  ['alter table docs set tablespace x', 'tablespace'],
  ['alter table docs add primary key (a)', 'another primary key'],
  ['alter table docs add unique (a)', 'unique'],
  ['alter table docs add constraint u unique (a)', 'unique'],
  ['alter table docs add constraint f foreign key (a) references b', 'foreign key'],
  ['alter table docs alter a add generated always as identity', 'identity'],
  ['alter table docs alter a drop expression', 'expression'],
  ['alter table docs add a text, disable trigger all', 'one of two'],
  ['alter table docs inherit other', 'inheritance'],
  ['create index on docs (a)', 'no name'],
  ['create index s.by_a on docs (a)', 'a schema'],
  ['create table x (a int)', 'another statement'],
  ['drop index a, b', 'two indexes'],
  ['drop index a cascade', 'cascade'],
])('%s is refused: %s', (text) => {
  expect(code(text)).toBe('ddl_refused');
});
