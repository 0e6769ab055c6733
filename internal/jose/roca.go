package jose

import "math/big"

// roca tells whether a modulus has the fingerprint of CVE-2017-15361: it lies
// in the group that 65537 generates modulo each of many small primes, which a
// random one does with a chance of about 2^-27. Such a key can be factored.
func roca(n *big.Int) bool {
	var rest big.Int
	for _, p := range [...]int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		v := rest.Mod(n, big.NewInt(p)).Int64()
		x := 65537 % p
		for x != v && x != 1 {
			x = x * 65537 % p
		}
		if x != v {
			return false
		}
	}
	return true
}
