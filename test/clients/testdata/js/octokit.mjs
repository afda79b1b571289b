import { Octokit } from '@octokit/rest';
const octokit = new Octokit({ auth: process.env.GITHUB_TOKEN });
console.log((await octokit.users.getAuthenticated()).data.login);
