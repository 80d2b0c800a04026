/** Each code of the registry is named by a test that brings it about. What a test names and does not bring about, its readers would see: that is all this can not. */
import { expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { errorCodes } from '#core/errors/codes.ts';
import { projectFiles } from './tidy/tree.ts';

const isTest = (path: string): boolean =>
  /\.test\.ts$|^test\/.*\.ts$/.test(path) && !/^test\/(tidy|error-codes\.test\.ts)/.test(path);

const unnamed = (codes: readonly string[], text: string): string[] => {
  const named = new Set(text.match(/\b[a-z]+(?:_[a-z]+)*\b/g));
  return codes.filter((code) => !named.has(code));
};

test('no code is without a test', () => {
  const tests = projectFiles(projectRoot).filter(({ path }) => isTest(path));
  expect(tests.length).toBeGreaterThan(100);
  const codes = Object.keys(errorCodes);
  expect(codes.length).toBeGreaterThan(80);
  expect(unnamed(codes, tests.map(({ text }) => text).join('\n'))).toEqual([]);
});

test('one that is named nowhere is seen', () => {
  expect(unnamed(['timeout', 'time'], `code: 'timeout'`)).toEqual(['time']);
});
