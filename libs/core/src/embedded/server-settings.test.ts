import { expect, test } from '@jest/globals';
import { localeFlags, renderSettings, settingsForMajor } from './server-settings.ts';

test('values are quoted', () => {
  expect(renderSettings({ port: '5432', log_line_prefix: "it's %m" }).split('\n').slice(1)).toEqual([
    "port = '5432'",
    "log_line_prefix = 'it''s %m'",
    '',
  ]);
});

test('a server only gets settings that its major knows', () => {
  expect(Object.keys(settingsForMajor({ a: '1' }, 16))).toEqual(['a']);
  expect(Object.keys(settingsForMajor({ a: '1' }, 18))).toContain('max_active_replication_origins');
});

test('all majors sort by code point', () => {
  expect(localeFlags(18, 'linux')).toContain('--builtin-locale=C.UTF-8');
  expect(localeFlags(16, 'linux')).toContain('--locale=C.UTF-8');
  expect(localeFlags(16, 'darwin')).toContain('--locale=C');
});
