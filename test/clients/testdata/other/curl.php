<?php
$c = curl_init('https://api.openai.com/v1/models');
if (curl_exec($c) === false) { fwrite(STDERR, curl_error($c)); exit(1); }
