import { expect, test } from '@jest/globals';
import { readLogLine } from './log-line.ts';

test('information stays in the log file', () => {
  expect(readLogLine('{"level":30,"msg":"listening"}')).toBeUndefined();
  expect(readLogLine('')).toBeUndefined();
});

test('warnings and errors are shown with their cause', () => {
  expect(readLogLine('{"level":40,"msg":"slow"}')).toEqual({ level: 'warning', text: 'slow' });
  expect(readLogLine('{"level":50,"msg":"cannot apply","err":{"message":"disk full"}}')).toEqual({
    level: 'error',
    text: 'cannot apply: disk full',
  });
  expect(readLogLine('{"level":60,"msg":"same","err":{"message":"same"}}')).toEqual({
    level: 'error',
    text: 'same',
  });
});

test('what is not from the logger is shown as it is', () => {
  expect(readLogLine('Error: Cannot find module')).toEqual({
    level: 'warning',
    text: 'Error: Cannot find module',
  });
  expect(readLogLine('{"level":50,"ms')).toEqual({ level: 'warning', text: '{"level":50,"ms' });
});
