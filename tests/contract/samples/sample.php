<?php

require 'vendor/autoload.php';

use GuzzleHttp\Client;
use GuzzleHttp\Exception\RequestException;

$client = new Client([
    'base_uri' => 'https://api.woodpecker.co/rest/v2/',
    'headers' => [
        'x-api-key' => getenv('WOODPECKER_API_KEY'),
        'Content-Type' => 'application/json',
    ],
]);

try {
    $response = $client->post('mailboxes/microsoft/credentials', [
        'json' => [
            'tenant_id' => 'bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32',
            'client_id' => 'e1c6ac69-480e-4a17-9b85-3467967bd179',
            'client_secret' => 'your-client-secret',
            'secret_expires_at' => '2027-11-28T23:59:59Z',
            'name' => 'MS Graph app',
        ],
    ]);

    echo $response->getStatusCode(), "\n";
    echo $response->getBody(), "\n";
} catch (RequestException $e) {
    echo "Error: ", $e->getMessage(), "\n";

    if ($e->hasResponse()) {
        echo $e->getResponse()->getBody(), "\n";
    }
}
