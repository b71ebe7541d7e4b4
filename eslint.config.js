import tseslint from 'typescript-eslint';

/** Folders in order: a file may import from its own folder and from those below it. */
const layers = [
  [
    'cli',
    'standalone',
    'main',
    'app',
    'background',
    'observer',
    'node-registrator',
    'vsms',
    'shared-state',
    'node-identity',
    'open-admin',
    'company',
    'plugin-version',
  ],
  ['volume-driver', 'admin', 'registrator'],
  ['volumes'],
  ['cluster', 'scheduler'],
  ['state', 'dataplane'],
  ['docker'],
  ['config', 'config-values', 'context', 'errors', 'log', 'lib'],
];

/** What the CLI may not import: it starts within a tenth of a second, on hosts without our packages. */
const cliForbids = layers
  .flat()
  .filter((name) => !['cli', 'admin', 'lib'].includes(name))
  .join('|');

/** Packages that one folder owns. */
const owners = {
  dockerode: ['src/docker/**'],
  etcd3: ['src/state/**'],
  express: ['src/volume-driver/**', 'src/admin/**', 'src/standalone/**', 'src/cluster/**'],
  'node:child_process': ['src/dataplane/command.ts'],
  'node:dgram': ['src/cluster/**'],
  '@peculiar/x509': ['src/cluster/**'],
  'prom-client': ['src/registrator/**'],
  'quickjs-emscripten-core': ['src/registrator/**'],
};

function importRules(files, layer, own) {
  const above = layers.slice(0, layer).flat();
  const beside = layers[layer].filter((name) => !own.includes(name) && layer !== layers.length - 1);
  const folders = layer === 0 ? [] : [...above, ...beside];
  const packages = Object.keys(owners).filter(
    (name) => !owners[name].some((glob) => own.some((folder) => glob.startsWith(`src/${folder}`))),
  );
  return {
    files,
    rules: {
      'no-restricted-imports': [
        'error',
        {
          paths: packages.map((name) => ({ name, message: `only ${owners[name].join(', ')} may import it` })),
          patterns: folders.map((name) => ({
            regex: `^\\.\\.?/(\\.\\./)*${name}(/|\\.js$)`,
            message: 'imports go downwards only: see the layer table in src/README.md',
          })),
        },
      ],
    },
  };
}

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'node_modules/'] },
  ...tseslint.configs.strictTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        project: ['./tsconfig.json', './test/tsconfig.json'],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'max-lines': ['error', { max: 250, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 50, skipBlankLines: true, skipComments: true }],
      complexity: ['error', 10],
      'max-params': ['error', 4],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'named exports only' },
        {
          selector: "ThrowStatement > NewExpression[callee.name='Error']",
          message: 'throw an AppError with a code',
        },
      ],
      'no-restricted-properties': [
        'error',
        { object: 'process', property: 'env', message: 'settings come from config.ts' },
      ],
    },
  },
  ...layers.flatMap((names, index) =>
    names.map((name) =>
      importRules(
        [`src/${name}/**/*.ts`, `src/${name}.ts`],
        index,
        index === layers.length - 1 ? names : [name],
      ),
    ),
  ),
  {
    files: ['src/cli/**/*.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          patterns: [
            { regex: '^(?!node:|\\.)', message: 'the CLI imports node:* alone' },
            {
              regex: `^\\.\\./(\\.\\./)*(${cliForbids})(/|\\.js$)`,
              message: 'the CLI imports lib/, and types of admin/messages.ts',
            },
            {
              regex: '/admin/',
              allowTypeImports: true,
              message: 'the CLI takes nothing of admin/ but types',
            },
          ],
        },
      ],
    },
  },
  {
    files: ['src/main.ts', 'src/standalone/main.ts', 'src/cli/main.ts'],
    rules: { 'no-restricted-properties': 'off' },
  },
  {
    files: ['test/**/*.ts', 'eslint.config.js'],
    rules: {
      'max-lines': 'off',
      'max-lines-per-function': 'off',
      'no-restricted-properties': 'off',
      'no-restricted-syntax': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  { files: ['eslint.config.js'], extends: [tseslint.configs.disableTypeChecked] },
);
