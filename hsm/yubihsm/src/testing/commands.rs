//! The double's commands, as the vendor's command reference describes them.

use super::device::{Device, Object};
use super::keys::Material;
use super::log::Log;
use crate::wire::{Fields, LABEL_BYTES, capability, command, device_error, object_algorithm, object_type};

type Answer = Result<Vec<u8>, u8>;

/// Capabilities and domains of whoever asks.
pub(super) type Allowed = (u64, u16);

impl Device {
    /// Does one command; `keys` tells the log which keys it was about.
    pub(super) fn command(
        &mut self,
        allowed: Allowed,
        code: u8,
        content: &[u8],
        keys: &mut (u16, u16),
    ) -> Answer {
        if let Some(needed) = needed_of_the_asker(code)
            && allowed.0 & needed == 0
        {
            return Err(device_error::INSUFFICIENT_PERMISSIONS);
        }
        match code {
            command::ECHO => Ok(content.to_vec()),
            command::DEVICE_INFO => Ok(self.device_info()),
            command::CLOSE_SESSION => Ok(Vec::new()),
            command::GET_STORAGE_INFO => Ok([256_u16, 200, 1024, 900, 126].map(u16::to_be_bytes).concat()),
            command::LIST_OBJECTS => self.list_objects(allowed, content),
            command::GET_OBJECT_INFO => self.object_info(allowed, content, keys),
            command::GET_PUBLIC_KEY => self.public_key(allowed, content, keys),
            command::GET_OPAQUE => self.opaque(content, keys),
            command::SIGN_EDDSA
            | command::SIGN_ECDSA
            | command::SIGN_PKCS1
            | command::SIGN_PSS
            | command::SIGN_HMAC => self.sign(allowed, code, content, keys),
            command::GENERATE_ASYMMETRIC_KEY | command::GENERATE_HMAC_KEY | command::PUT_HMAC_KEY => {
                self.new_key(allowed, code, content, keys)
            }
            command::GET_OPTION => {
                let tag = content.first().ok_or(device_error::WRONG_LENGTH)?;
                self.log.option(*tag).ok_or(device_error::INVALID_DATA)
            }
            command::SET_OPTION => {
                let mut fields = Fields(content);
                let (tag, _length) = fields.u8().zip(fields.u16()).ok_or(device_error::WRONG_LENGTH)?;
                done(self.log.set_option(tag, fields.0))
            }
            command::GET_LOG_ENTRIES => Ok(self.log.answer()),
            command::SET_LOG_INDEX => {
                let index = Fields(content).u16().ok_or(device_error::WRONG_LENGTH)?;
                done(self.log.consume(index))
            }
            command::SIGN_ATTESTATION_CERTIFICATE => self.attest(allowed, content, keys),
            command::RESET_DEVICE => {
                self.reset().map_err(|_| device_error::COMMAND_UNEXECUTED)?;
                Ok(vec![0])
            }
            _ => Err(device_error::INVALID_COMMAND),
        }
    }

    pub(super) fn device_info(&self) -> Vec<u8> {
        let used = u8::try_from(self.log.used()).unwrap_or(u8::MAX);
        let capacity = u8::try_from(Log::capacity()).unwrap_or(u8::MAX);
        let mut info = vec![2, 3, 2];
        info.extend(self.serial.to_be_bytes());
        info.extend([capacity, used]);
        info.extend(1..=47);
        info
    }

    fn list_objects(&self, allowed: Allowed, filter: &[u8]) -> Answer {
        let filter = Filter::parse(filter).ok_or(device_error::INVALID_DATA)?;
        let seen = self.objects.iter().filter(|((id, object_type), object)| {
            *id != 0 && object.domains & allowed.1 != 0 && filter.matches(*id, *object_type, object)
        });
        let entry = |((id, object_type), object): (&(u16, u8), &Object)| {
            let [high, low] = id.to_be_bytes();
            [high, low, *object_type, object.sequence]
        };
        Ok(seen.map(entry).collect::<Vec<_>>().concat())
    }

    fn object(&self, allowed: Allowed, id: u16, object_type: u8) -> Result<&Object, u8> {
        let object = self.objects.get(&(id, object_type));
        object.filter(|object| object.domains & allowed.1 != 0).ok_or(device_error::OBJECT_NOT_FOUND)
    }

    fn object_info(&self, allowed: Allowed, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        let mut fields = Fields(content);
        let (id, object_type) = fields.u16().zip(fields.u8()).ok_or(device_error::WRONG_LENGTH)?;
        keys.0 = id;
        let object = self.object(allowed, id, object_type)?;
        let mut info = object.capabilities.to_be_bytes().to_vec();
        info.extend([id, 32, object.domains].map(u16::to_be_bytes).concat());
        info.extend([object_type, object.algorithm, object.sequence, object.origin]);
        info.extend(object.label);
        info.extend(0_u64.to_be_bytes());
        Ok(info)
    }

    fn public_key(&self, allowed: Allowed, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        keys.0 = Fields(content).u16().ok_or(device_error::WRONG_LENGTH)?;
        let object = self.object(allowed, keys.0, object_type::ASYMMETRIC_KEY)?;
        let public = object.material.public().ok_or(device_error::INVALID_DATA)?;
        Ok([&[object.algorithm], public.as_slice()].concat())
    }

    fn opaque(&self, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        keys.0 = Fields(content).u16().ok_or(device_error::WRONG_LENGTH)?;
        match self.objects.get(&(keys.0, object_type::OPAQUE)).map(|object| &object.material) {
            Some(Material::Opaque(bytes)) => Ok(bytes.clone()),
            _ => Err(device_error::OBJECT_NOT_FOUND),
        }
    }

    fn sign(&self, allowed: Allowed, code: u8, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        let mut fields = Fields(content);
        keys.0 = fields.u16().ok_or(device_error::WRONG_LENGTH)?;
        let kind =
            if code == command::SIGN_HMAC { object_type::HMAC_KEY } else { object_type::ASYMMETRIC_KEY };
        let object = self.object(allowed, keys.0, kind)?;
        let needed = needed_of_the_asker(code).unwrap_or(u64::MAX);
        if object.capabilities & needed == 0 {
            return Err(device_error::INSUFFICIENT_PERMISSIONS);
        }
        let signature = match code {
            command::SIGN_EDDSA => object.material.sign_eddsa(fields.0),
            command::SIGN_ECDSA => object.material.sign_ecdsa(fields.0),
            command::SIGN_PKCS1 => object.material.sign_pkcs1(fields.0),
            command::SIGN_HMAC => object.material.sign_hmac(fields.0),
            _ => {
                let (mask, salt) = fields.u8().zip(fields.u16()).ok_or(device_error::WRONG_LENGTH)?;
                object.material.sign_pss(mask, salt, fields.0)
            }
        };
        signature.ok_or(device_error::INVALID_DATA)
    }

    fn new_key(&mut self, allowed: Allowed, code: u8, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        let mut fields = Fields(content);
        let read = (|| {
            let head = (fields.u16()?, fields.take::<LABEL_BYTES>()?, fields.u16()?);
            Some((head, fields.u64()?, fields.u8()?))
        })();
        let ((id, label, domains), capabilities, algorithm) = read.ok_or(device_error::WRONG_LENGTH)?;
        let is_mac = (object_algorithm::HMAC_SHA256..=object_algorithm::HMAC_SHA512).contains(&algorithm);
        let kind = match code {
            command::GENERATE_ASYMMETRIC_KEY if !is_mac => object_type::ASYMMETRIC_KEY,
            command::GENERATE_HMAC_KEY | command::PUT_HMAC_KEY if is_mac => object_type::HMAC_KEY,
            _ => return Err(device_error::INVALID_DATA),
        };
        if domains & !allowed.1 != 0 {
            return Err(device_error::INSUFFICIENT_PERMISSIONS);
        }
        let id = if id == 0 { self.free_id(kind) } else { id };
        keys.0 = id;
        if self.objects.contains_key(&(id, kind)) {
            return Err(device_error::OBJECT_EXISTS);
        }
        let (material, origin) = match code {
            command::PUT_HMAC_KEY => (Material::mac(algorithm, fields.0), 2),
            _ => (Material::generate(algorithm).map_err(|_| device_error::COMMAND_UNEXECUTED)?, 1),
        };
        let material = material.ok_or(device_error::INVALID_DATA)?;
        let object = Object { algorithm, capabilities, domains, sequence: 0, origin, label, material };
        self.objects.insert((id, kind), object);
        Ok(id.to_be_bytes().to_vec())
    }

    fn attest(&self, allowed: Allowed, content: &[u8], keys: &mut (u16, u16)) -> Answer {
        let mut fields = Fields(content);
        *keys = fields.u16().zip(fields.u16()).ok_or(device_error::WRONG_LENGTH)?;
        let object = self.object(allowed, keys.0, object_type::ASYMMETRIC_KEY)?;
        let spki = object.material.spki().ok_or(device_error::INVALID_DATA)?;
        match keys.1 {
            0 => self.attestation.attest(keys.0, &spki).ok_or(device_error::COMMAND_UNEXECUTED),
            _ => Err(device_error::OBJECT_NOT_FOUND),
        }
    }
}

fn done(done: bool) -> Answer {
    if done { Ok(Vec::new()) } else { Err(device_error::INVALID_DATA) }
}

/// The capability the authentication key must have; `None` if none is needed. For signing, the key used
/// needs it as well.
const fn needed_of_the_asker(code: u8) -> Option<u64> {
    Some(match code {
        command::SIGN_EDDSA => capability::SIGN_EDDSA,
        command::SIGN_ECDSA => capability::SIGN_ECDSA,
        command::SIGN_PKCS1 => capability::SIGN_PKCS,
        command::SIGN_PSS => capability::SIGN_PSS,
        command::SIGN_HMAC => capability::SIGN_HMAC,
        command::GENERATE_ASYMMETRIC_KEY => capability::GENERATE_ASYMMETRIC_KEY,
        command::GENERATE_HMAC_KEY => capability::GENERATE_HMAC_KEY,
        command::PUT_HMAC_KEY => capability::PUT_HMAC_KEY,
        command::GET_OPAQUE => capability::GET_OPAQUE,
        command::GET_OPTION => capability::GET_OPTION,
        command::SET_OPTION => capability::SET_OPTION,
        command::GET_LOG_ENTRIES | command::SET_LOG_INDEX => capability::GET_LOG_ENTRIES,
        command::SIGN_ATTESTATION_CERTIFICATE => capability::SIGN_ATTESTATION_CERTIFICATE,
        command::RESET_DEVICE => capability::RESET_DEVICE,
        _ => return None,
    })
}

/// What LIST OBJECTS was asked to list.
#[derive(Default)]
struct Filter {
    id: Option<u16>,
    object_type: Option<u8>,
    domains: Option<u16>,
    capabilities: Option<u64>,
    algorithm: Option<u8>,
    label: Option<[u8; LABEL_BYTES]>,
}

impl Filter {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let mut filter = Self::default();
        while let Some(tag) = fields.u8() {
            match tag {
                0x01 => filter.id = Some(fields.u16()?),
                0x02 => filter.object_type = Some(fields.u8()?),
                0x03 => filter.domains = Some(fields.u16()?),
                0x04 => filter.capabilities = Some(fields.u64()?),
                0x05 => filter.algorithm = Some(fields.u8()?),
                0x06 => filter.label = Some(fields.take()?),
                _ => return None,
            }
        }
        Some(filter)
    }

    fn matches(&self, id: u16, object_type: u8, object: &Object) -> bool {
        self.id.is_none_or(|wanted| wanted == id)
            && self.object_type.is_none_or(|wanted| wanted == object_type)
            && self.domains.is_none_or(|wanted| wanted & object.domains != 0)
            && self.capabilities.is_none_or(|wanted| wanted & object.capabilities != 0)
            && self.algorithm.is_none_or(|wanted| wanted == object.algorithm)
            && self.label.is_none_or(|wanted| wanted == object.label)
    }
}
