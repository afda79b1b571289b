<?php
$options = ['http' => ['method' => 'GET']];
if (count($argv) > 1) { // as a program does that wants to use HTTPS_PROXY
    $p = parse_url(getenv('HTTPS_PROXY'));
    $options['http']['proxy'] = "tcp://{$p['host']}:{$p['port']}";
    $options['http']['header'] = 'Proxy-Authorization: Basic ' . base64_encode("{$p['user']}:{$p['pass']}");
}
$text = file_get_contents('https://api.openai.com/v1/models', false, stream_context_create($options));
if ($text === false) exit(1);
echo $text;
